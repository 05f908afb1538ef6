"""Arithmetic: against the definitions of the operations and modes, numpy, ml_dtypes, and the integers of exact."""

import functools
import itertools
import math
import time
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from test_formats import FLOATS, _floats, value
from test_rounding import DIRECTED, by_definition, magnitudes

from emulator import BadOperand, Float, arithmetic, convert, number_format
from emulator.exact import decode
from emulator.formats import FORMATS
from emulator.rounding import MODES, STOCHASTIC

BINARY = ("add", "sub", "mul", "div")
ARITY = {**dict.fromkeys(BINARY, 2), "fma": 3, "sqrt": 1}
EXACTLY = {"add": lambda x, y: x + y, "sub": lambda x, y: x - y, "mul": lambda x, y: x * y,
           "div": lambda x, y: x / y, "fma": lambda x, y, z: x * y + z}
E8 = [number_format(n) for n in ("e4m3", "e5m2", "e4m3fnuz", "e3m4", "ue4m3")]


def codes_of(x, fmt):
    return np.asarray(x).view(fmt.code_dtype)


def root_by_definition(fmt, x, mode):
    """The magnitude code of the square root of x under a mode: g is at most the root where g * g is at most x."""
    grid = magnitudes(fmt)
    low = max(code for code in range(len(grid)) if grid[code] ** 2 <= x)
    if grid[low] ** 2 == x:
        return low
    middle = ((grid[low] + grid[low + 1]) / 2) ** 2
    nearest = low + (middle < x)
    return {"rz": low, "rd": low, "ru": low + 1, "ro": low + (low % 2 == 0), "rne": low + low % 2 if middle == x
            else nearest, "rna": low + 1 if middle == x else nearest}[mode]


# --- against the definition -------------------------------------------------------------------------------------------

@settings(max_examples=80)
@given(_floats(), st.sampled_from(list(ARITY)), st.sampled_from(DIRECTED), st.data())
def test_generated_formats_against_fractions(fmt, name, mode, data):
    one = st.tuples(st.integers(0, fmt.max_code), st.booleans())
    rows = data.draw(st.lists(st.tuples(*[one] * ARITY[name]), min_size=8, max_size=8))
    rows = [[code | (fmt.sign if minus and (code or fmt.has_negative_zero) else 0) for code, minus in row] for row in rows]
    numbers = [[value(decode(fmt, code)) for code in row] for row in rows]
    if name == "sqrt":
        keep = [i for i, (x,) in enumerate(numbers) if 0 < x and magnitudes(fmt)[0] ** 2 <= x <= magnitudes(fmt)[-1] ** 2]
    else:
        keep = [i for i, row in enumerate(numbers) if name != "div" or row[1]]
        keep = [i for i in keep if EXACTLY[name](*numbers[i]) and abs(EXACTLY[name](*numbers[i])) <= magnitudes(fmt)[-1]]
        keep = [i for i in keep if magnitudes(fmt)[0] <= abs(EXACTLY[name](*numbers[i]))
                and (fmt.signed or EXACTLY[name](*numbers[i]) > 0)]
    assume(keep)
    operands = np.array(rows, fmt.code_dtype)[keep].T
    for engine in (None, "exact"):
        found = getattr(arithmetic, name)(*operands, rounding=mode, source=fmt, engine=engine)
        for i, code in zip(keep, found.tolist()):
            if name == "sqrt":
                want = root_by_definition(fmt, *numbers[i], mode)
            else:
                exactly = EXACTLY[name](*numbers[i])
                want = by_definition(fmt, exactly, mode)
                want |= fmt.sign if exactly < 0 and (want or fmt.has_negative_zero) else 0
            assert code == want, (numbers[i], hex(code), hex(want), engine)


def by_comparison(fmt, mode, compare, negative, shape):
    """The saturated code of an exact result known by compare(g), the sign of its magnitude minus the double g."""
    grid = np.array([float(g) for g in magnitudes(fmt)])
    low = np.zeros(shape, int)
    for step in (1 << bit for bit in reversed(range(len(grid).bit_length()))):
        there = low + step < len(grid)
        up = there & (compare(grid[np.where(there, low + step, 0)]) >= 0)
        low += step * up
    inexact = compare(grid[low]) > 0
    top = low + 1 == len(grid)
    high = np.where(top, low, low + 1)
    middle = compare((grid[low] + grid[high]) / 2)
    up = {"rz": False, "rd": negative, "ru": ~negative, "ro": low % 2 == 0, "rna": middle >= 0,
          "rne": (middle > 0) | ((middle == 0) & (low % 2 == 1))}[mode]
    magnitude = np.where(inexact & up, high, low)
    return magnitude | np.where(negative & ((magnitude > 0) | fmt.has_negative_zero), fmt.sign, 0)


@pytest.mark.parametrize("fmt", E8, ids=str)
@pytest.mark.parametrize("name", [*BINARY, "sqrt"])
def test_every_pair_of_8_bit_numbers(fmt, name):
    """Doubles are exact here: sums of two numbers, products, and what a quotient or root is compared by."""
    finite = np.array([c for c in range(1 << (8 - fmt.high_pad)) if decode(fmt, c).kind == "finite"], fmt.code_dtype)
    x, y = (c.reshape(-1) for c in np.meshgrid(finite, finite))
    u, v = (convert(c, "f64", source=fmt) for c in (x, y))
    if name == "sqrt":
        x, u = finite[convert(finite, "f64", source=fmt) > 0], np.sort(convert(finite, "f64", source=fmt))
        u = convert(x, "f64", source=fmt)
        operands, negative = (x,), np.zeros(x.shape, bool)
        keep = np.ones(x.shape, bool)
    else:
        sign = {"add": np.sign(u + v), "sub": np.sign(u - v), "mul": np.sign(u * v), "div": np.sign(u) * np.sign(v)}[name]
        keep = (sign > 0) | ((sign < 0) & fmt.signed)
        operands, negative = (x, y), sign < 0
    compare = {"add": lambda g: np.sign(np.abs(u + v) - g), "sub": lambda g: np.sign(np.abs(u - v) - g),
               "mul": lambda g: np.sign(np.abs(u * v) - g), "div": lambda g: np.sign(np.abs(u) - g * np.abs(v)),
               "sqrt": lambda g: np.sign(u - g * g)}[name]
    for mode in DIRECTED:
        found = codes_of(getattr(arithmetic, name)(*operands, rounding=mode, overflow="saturate", source=fmt), fmt)
        want = by_comparison(fmt, mode, compare, negative, keep.shape)
        wrong = (found != want) & keep
        assert not wrong.any(), [(hex(c[wrong][0]) for c in operands), found[wrong][0], want[wrong][0]]


# --- against numpy and ml_dtypes --------------------------------------------------------------------------------------

def mixed(fmt, size, seed):
    """Codes of every kind: uniform, near each other, small whole numbers, the ends of the range, specials."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 1 << fmt.bits, size, np.uint64)
    near = rng.integers(0, 1 << min(fmt.bits, 12), size, np.uint64) ^ np.uint64(fmt.max_code >> 1 & fmt.magnitude)
    ends = [0, 1, 2, fmt.max_code - 1, fmt.max_code, fmt.max_code + 1, fmt.nan_code or 0, 1 << fmt.frac_bits]
    ends = np.array([end ^ sign for end in ends for sign in (0, fmt.sign)], np.uint64) & np.uint64((1 << fmt.bits) - 1)
    pick = rng.integers(0, 8, size)
    x = np.where(pick < 3, near, np.where(pick == 3, rng.choice(ends, size), x))
    return x.astype(fmt.code_dtype)


@pytest.mark.parametrize("name", [*BINARY, "sqrt"])
@pytest.mark.parametrize("kind, size", [("f16", 50000), ("f32", 50000), ("bf16", 50000), ("f64", 1500)])
def test_like_numpy_and_ml_dtypes(name, kind, size):
    """They are right: float16 and bfloat16 round twice, through float32, which has the 2p + 2 bits that it takes."""
    fmt = number_format(kind)
    ufunc = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "sqrt": np.sqrt}[name]
    x = [mixed(fmt, size, seed).view(ml_dtypes.bfloat16 if kind == "bf16" else fmt.name) for seed in range(ARITY[name])]
    with np.errstate(all="ignore"):
        want = ufunc(*x)
    for engine in (None, "exact"):
        part = slice(None) if engine is None else slice(0, 1500)
        found = getattr(arithmetic, name)(*(operand[part] for operand in x), engine=engine)
        same = codes_of(found, fmt) == codes_of(want[part], fmt)
        assert (same | (np.isnan(found) & np.isnan(want[part]))).all()
        assert found.dtype == want.dtype and (codes_of(found, fmt)[np.isnan(found)] == fmt.nan_code).all()


@pytest.mark.parametrize("fmt", [*FLOATS, Float("user_e15m48", 15, 48), Float("user_e11m10", 11, 10)], ids=str)
def test_both_routes_agree(fmt):
    """Every operation and mode, specials too, with policies in turn: through float64 and through integers."""
    nan = None if fmt.nan_code is not None else "max"
    overflow = itertools.cycle(["ieee", "saturate", "infinity", "propagate"])
    for (name, arity), mode in itertools.product(ARITY.items(), MODES):
        x = [mixed(fmt, 40, seed) for seed in range(arity)]
        drawn = dict(random=mixed(number_format("f16"), 40, 9), random_bits=16) if mode in STOCHASTIC else {}
        found = [getattr(arithmetic, name)(*x, None, mode, next(overflow) if i == 0 else policy, source=fmt, nan=nan,
                                           engine=engine, ftz=mode == "rz", daz=mode == "rna", **drawn)
                 for policy in [next(overflow)] for i, engine in [(1, None), (1, "exact")]]
        assert (codes_of(found[0], fmt) == codes_of(found[1], fmt)).all(), (name, mode)


def test_float32_directed_and_fma_by_fractions():
    fmt = number_format("f32")
    for name, mode in itertools.product(ARITY, ("rd", "ru", "rz", "rne")):
        x = [np.float32(v) for v in ([1.1, 3.0, 1e-40, 2.0**100], [1 / 3, 7e-3, 1e-6, 3.0], [-0.3666667, 1e-8, 2e-45, 1])]
        x = [np.array(v, np.float32) for v in x][:ARITY[name]]
        found = getattr(arithmetic, name)(*x, rounding=mode).tolist()
        for row, got in zip(zip(*(v.tolist() for v in x)), found):
            bits = Fraction(2) ** max(fmt.emin - 23, math.frexp(got)[1] - 24)
            below, above = Fraction(got) - bits, Fraction(got) + bits
            if name == "sqrt":
                exactly, got, below, above = Fraction(row[0]), Fraction(got) ** 2, below**2, above**2
            else:
                exactly, got = EXACTLY[name](*map(Fraction, row)), Fraction(got)
            if mode == "rne":
                assert (below + got) / 2 <= exactly <= (above + got) / 2 or name == "sqrt"
            low = mode == "rd" or (mode == "rz" and exactly > 0)
            assert mode == "rne" or (got <= exactly < above if low else below < exactly <= got), (name, mode, row)


def test_results_in_another_format_are_rounded_once():
    x, y = np.array([1.0], ml_dtypes.bfloat16), np.array([2.0**-20], np.float32)
    assert arithmetic.add(x, y, to="bf16", rounding="ru").tolist() == [1.0078125]
    assert arithmetic.add(x, y, to="f32").tolist() == [1 + 2.0**-20]
    # 1 + 2^-8 is a tie in BF16; with 2^-30 more it is not, which a rounding to float32 first would lose
    assert arithmetic.fma(np.float32(2.0**-15), np.float32(2.0**-15), np.float32(1 + 2.0**-8), to="bf16") == 1.0078125


def test_zero_signs_and_specials():
    x, y = np.array([1.5, -0.0, 0.0, 0.0], np.float16), np.array([-1.5, 0.0, -0.0, 0.0], np.float16)
    for engine in (None, "exact"):
        signs = [np.signbit(arithmetic.add(x, y, rounding=mode, engine=engine)).tolist() for mode in ("rne", "rd")]
        assert signs == [[False] * 4, [True, True, True, False]]
        assert np.signbit(arithmetic.sqrt(np.float16(-0.0), engine=engine))
        assert np.signbit(arithmetic.fma(np.float16(-1), np.float16(0), np.float16(0), rounding="rd", engine=engine))
        one, zero = (np.array([v], ml_dtypes.float8_e4m3fn) for v in (1, 0))
        assert codes_of(arithmetic.div(one, zero, engine=engine), number_format("e4m3")).tolist() == [0x7F]
        assert arithmetic.div(one, zero, overflow="saturate", engine=engine).tolist() == [448]


# --- order ------------------------------------------------------------------------------------------------------------

def test_comparisons_like_numpy():
    x, y = (mixed(number_format("f16"), 20000, seed).view(np.float16) for seed in (1, 2))
    for name, ufunc in (("equal", np.equal), ("less", np.less), ("less_equal", np.less_equal)):
        assert (getattr(arithmetic, name)(x, y) == ufunc(x, y)).all()
    assert (arithmetic.unordered(x, y) == (np.isnan(x) | np.isnan(y))).all()
    for name, ufunc in (("minimum", np.minimum), ("maximum", np.maximum), ("minimum_number", np.fmin),
                        ("maximum_number", np.fmax)):
        want, zeros = ufunc(x, y), (x == 0) & (y == 0)          # numpy takes either zero
        negative = (np.logical_and if "max" in name else np.logical_or)(np.signbit(x), np.signbit(y))
        want[zeros] = np.where(negative, np.float16(-0.0), np.float16(0))[zeros]
        np.testing.assert_array_equal(codes_of(getattr(arithmetic, name)(x, y), number_format("f16"))[~np.isnan(want)],
                                      want.view(np.uint16)[~np.isnan(want)])
        assert np.isnan(getattr(arithmetic, name)(x, y)[np.isnan(want)]).all()


@pytest.mark.parametrize("fmt", [f for f in FLOATS if f.bits <= 8] + [number_format("f16"), number_format("bf16")], ids=str)
def test_next_up_and_down_are_the_neighbours_by_value(fmt):
    x = np.arange(1 << fmt.bits, dtype=fmt.code_dtype)
    up, down = (codes_of(step(x, source=fmt), fmt).tolist() for step in (arithmetic.next_up, arithmetic.next_down))
    if fmt.bits == 16:
        x = x[[decode(fmt, code).kind != "nan" for code in x.tolist()]]
        up, down = np.array(up)[x], np.array(down)[x]
        typed = x.view(ml_dtypes.bfloat16 if fmt.name == "bfloat16" else np.float16)
        for found, end in ((up, np.inf), (down, -np.inf)):
            with np.errstate(all="ignore"):
                want = np.nextafter(typed, typed.dtype.type(end))
            assert (found == want.view(np.uint16))[want != 0].all()     # numpy's zeros have other signs
        return
    numbers = [decode(fmt, code) for code in x.tolist()]
    values = {code: math.inf * (-1) ** n.negative if n.kind == "inf" else value(n) for code, n in enumerate(numbers)
              if n.kind != "nan"}
    grid = sorted(set(values.values()))
    for code in x.tolist():
        for step, found, end, zero in ((1, up[code], grid[-1], fmt.has_negative_zero * fmt.sign), (-1, down[code], grid[0], 0)):
            if code not in values or (values[code] == end and end not in (math.inf, -math.inf)):
                assert found == (code if fmt.nan_code is None else fmt.nan_code)
            elif values[code] == end:
                assert found == code
            else:
                want = grid[grid.index(values[code]) + step]
                assert values[found] == want and (want or found == zero)


def test_total_order():
    x = np.array([0xFFFF, 0xFC00, 0x8001, 0x8000, 0, 1, 0x7C00, 0x7C01, 0x7FFF], np.uint16)     # ascending
    found = arithmetic.total_order(x[:, None], x[None, :], source="f16")
    assert (found == np.triu(np.ones((9, 9), bool))).all()


# --- sums -------------------------------------------------------------------------------------------------------------

def test_what_bf16_accumulation_loses():
    x = np.ones(1024, ml_dtypes.bfloat16)
    assert {order: float(arithmetic.sum(x, order=order)) for order in (*arithmetic.ORDERS, "exact")} == {
        "sequential": 256, "pairwise": 1024, "kahan": 1024, "exact": 1024}
    assert float(arithmetic.sum(x, to="f32")) == 1024


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_orders_like_scalars(kind):
    dtype = np.dtype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
    x = np.random.default_rng(0).standard_normal((5, 37)).astype(dtype)
    for row, *found in zip(x, *(arithmetic.sum(x, order=order) for order in arithmetic.ORDERS)):
        total = kahan = row[0]
        lost = dtype.type(0)
        for term in row[1:]:
            total = dtype.type(total + term)
            rest = dtype.type(term - lost)
            above = dtype.type(kahan + rest)
            lost = dtype.type(dtype.type(above - kahan) - rest)
            kahan = above
        tree = list(row)
        while len(tree) > 1:
            tree = [dtype.type(a + b) for a, b in zip(tree[::2], tree[1::2])] + tree[len(tree) & ~1:]
        assert found == [total, tree[0], kahan]
    y = np.random.default_rng(1).standard_normal((5, 37)).astype(dtype)
    for row_x, row_y, found in zip(x, y, arithmetic.dot(x, y)):
        total = dtype.type(row_x[0] * row_y[0])
        for a, b in zip(row_x[1:], row_y[1:]):
            total = dtype.type(total + dtype.type(a * b))
        assert found == total


@settings(max_examples=60)
@given(_floats(), st.sampled_from(DIRECTED), st.integers(1, 2), st.data())
def test_exact_sums_against_fractions(fmt, mode, factors, data):
    assume(fmt.specials != "exponent")
    rows = np.array(data.draw(st.lists(st.tuples(*[st.integers(0, fmt.max_code)] * factors), min_size=1, max_size=9)))
    x = [column.astype(fmt.code_dtype) for column in rows.T]
    exactly = sum(math.prod(value(decode(fmt, int(code))) for code in row) for row in rows)
    assume(0 < exactly <= magnitudes(fmt)[-1])
    found = (arithmetic.sum if factors == 1 else arithmetic.dot)(*x, order="exact", rounding=mode, source=fmt)
    assert int(found) == by_definition(fmt, exactly, mode)
    chain = arithmetic.sum(x[0], order="sequential", source=fmt, overflow="saturate", engine="exact")
    assert int(chain) == int(arithmetic.sum(x[0], order="sequential", source=fmt, overflow="saturate"))


def test_exact_sums_of_wide_numbers_and_specials():
    x = np.array([1e308, 1.0, -1e308, 2.0**-1074])
    assert float(arithmetic.sum(x, order="exact")) == 1 and float(arithmetic.sum(x)) == 2.0**-1074
    assert float(arithmetic.sum(x, order="exact", rounding="ru")) == 1 + 2.0**-52
    big = np.full((2, 5000), 3e38, np.float32) * np.array([[1], [-1]], np.float32)
    assert arithmetic.dot(big, big, to="f64", order="exact").tolist() == [float(5000 * Fraction(float(big[0, 0])) ** 2)] * 2
    inf = np.array([[np.inf, 1], [np.inf, -np.inf], [-0.0, -0.0], [0.0, -0.0]], np.float32)
    found = arithmetic.sum(inf, order="exact")
    assert found[0] == np.inf and np.isnan(found[1]) and np.signbit(found).tolist() == [False, False, True, False]
    assert np.signbit(arithmetic.sum(inf, order="exact", rounding="rd")[3])
    for order in (*arithmetic.ORDERS, "fma", "exact"):
        assert arithmetic.dot(inf[:, :0], inf[:, :0], order=order).tolist() == [0, 0, 0, 0]
        assert arithmetic.dot(inf, inf, order=order, axis=0).shape == (2,)


@pytest.mark.sanitize
@pytest.mark.parametrize("order", ["sequential", "kahan", "fma"])
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float8_e4m3fn", "float8_e5m2fnuz", "float6_e2m3fn"])
def test_chains_of_c_are_those_of_single_operations(name, order, monkeypatch):
    """Every mode, saturation, specials, and the words of a seed; also cut into pieces of a few steps."""
    fmt, rng = FORMATS[name], np.random.default_rng(4)
    x = rng.integers(0, 1 << fmt.bits, (2, 3, 40), np.uint64).astype(fmt.code_dtype)
    x[0, 0] &= fmt.code_dtype.type(fmt.magnitude >> 1 | fmt.sign)               # nothing special in this row
    for mode, overflow in zip(MODES, itertools.cycle(("saturate", "infinity", "ieee"))):
        seed = dict(seed=9, random_bits=12) if mode in STOCHASTIC else {}
        how = dict(source=fmt, to="e5m2" if mode == "rz" else fmt, order=order, rounding=mode, overflow=overflow, nan="zero", **seed)
        function = functools.partial(arithmetic.dot, x[1]) if order == "fma" else arithmetic.sum
        want = function(x[0], engine="numba", **how)
        assert function(x[0], engine="c", **how).tobytes() == want.tobytes(), mode
        with monkeypatch.context() as patch:
            patch.setattr(arithmetic, "CHUNK", 56)
            assert function(x[0], engine="c", **how).tobytes() == want.tobytes(), mode


def test_a_long_row_is_added_up_in_no_time_and_refuses_as_before():
    start, x = time.perf_counter(), np.ones(1 << 18, ml_dtypes.bfloat16)
    assert float(arithmetic.sum(x)) == 256 and time.perf_counter() - start < 3      # one by one it takes a minute
    with pytest.raises(BadOperand, match="the result of add: x is 0x407e000000000000 480.0: .* overflows float8_e4m3fn"):
        arithmetic.sum(np.full(40, 240, ml_dtypes.float8_e4m3fn), overflow="error")


def test_stochastic_sums_do_not_stagnate_and_repeat():
    x = np.ones((80, 512), ml_dtypes.bfloat16)
    found = arithmetic.sum(x, rounding="sr", seed=5)
    assert (found == arithmetic.sum(x, rounding="sr", seed=5)).all() and len(set(found.tolist())) > 5
    assert abs(found.astype(float).mean() - 512) < 10
    assert arithmetic.sum(x, order="exact", rounding="sr", seed=1).tolist() == [512] * 80


@pytest.mark.parametrize("call, sentence", [
    (lambda x: arithmetic.add(x, np.float32(1)), r"the operands are bfloat16 and float32; say which format the result has, to="),
    (lambda x: arithmetic.add(x, np.int8(1)), r"y is int8; arithmetic takes floating-point formats"),
    (lambda x: arithmetic.add(x, x[:2]), r"the operands do not broadcast to one shape: x \(3,\), y \(2,\)"),
    (lambda x: arithmetic.div(np.array([0.0, 1]).astype(ml_dtypes.float4_e2m1fn), convert([0.0, 1], "e2m1")), "the result of div: .* has no NaN"),
    (lambda x: arithmetic.mul(x, x, rounding="up"), "rounding 'up' is not known"),
    (lambda x: arithmetic.sum(x, order="tree"), "order 'tree' is not known; the orders are sequential pairwise kahan exact"),
    (lambda x: arithmetic.sum(x, axis=1), r"axis is 1; x has shape \(3,\)"),
    (lambda x: arithmetic.sum(np.array([1, 2], np.uint8), order="kahan", source="ue4m3"), "order kahan needs differences of both signs"),
    (lambda x: arithmetic.sum(x, rounding="sr", random=[1]), "random= holds the bits of one operation"),
    (lambda x: arithmetic.less(x, np.float32(1)), "the operands are bfloat16 and float32"),
])
def test_refusals(call, sentence):
    with pytest.raises(BadOperand, match=sentence):
        call(np.array([1, 2, 3], ml_dtypes.bfloat16))
