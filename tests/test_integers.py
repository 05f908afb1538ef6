"""Integer and table quantisation: against definitions in Fractions and numpy, torch, published tables and levels."""

import math
from fractions import Fraction
from statistics import NormalDist

import numpy as np
import pytest

from emulator import FORMATS, BadOperand, Table, UnknownFormat, convert, integers, quantize
from emulator.integers import (
    INTEGERS,
    ScaledFormat,
    clipping,
    exact_sums,
    fixed_point,
    from_twos_complement,
    hadamard,
    lloyd_max,
    normal_float,
    sqnr,
    twos_complement,
    wrap,
)

RNG = np.random.default_rng(0)
X = (RNG.standard_normal((6, 20)) * np.exp2(RNG.integers(-6, 6, (6, 1)))).astype(np.float32)


def nearest_even(x: Fraction) -> int:
    low = math.floor(x)
    return low + (x - low > Fraction(1, 2) or (x - low == Fraction(1, 2) and low % 2))


def groups(x, **how):
    """Slices of x that share a scale, and the index of the scale."""
    if "channel" in how:
        return [((0, i) if how["channel"] % 2 else (i, 0), (slice(None), i) if how["channel"] % 2 else (i, slice(None)))
                for i in range(x.shape[how["channel"]])]
    if "group" in how:
        return [((i, j), (i, slice(j * how["group"], (j + 1) * how["group"])))
                for i in range(len(x)) for j in range(-(-x.shape[1] // how["group"]))]
    return [((0, 0), (slice(None), slice(None)))]


@pytest.mark.parametrize("how", [{}, {"channel": 0}, {"channel": -1}, {"group": 8}, {"group": 5}], ids=str)
@pytest.mark.parametrize("name", ["int8", "int4", "int2", "uint8", "uint4", "uint2"])
def test_symmetric_and_affine_by_definition(name, how):
    q, fmt = quantize(X, name, **how), FORMATS[name]
    back = q.dequantize("f64")
    for index, part in groups(X, **how):
        x = [Fraction(float(v)) for v in X[part].reshape(-1)]
        if name.startswith("u"):
            want = np.float32(float((max(0, *x) - min(0, *x)) / fmt.max))
            zero = min(max(-nearest_even(min(0, *x) / Fraction(float(want))), 0), fmt.max)
        else:
            want, zero = np.float32(float(max(map(abs, x)) / fmt.max)), 0
        assert q.scales[index] == want and (0 if q.zero_points is None else q.zero_points[index]) == zero
        low = fmt.min if name.startswith("u") else -fmt.max
        codes = [min(max(nearest_even(v / Fraction(float(want))) + zero, low), fmt.max) for v in x]
        assert q.elements[part].astype(int).reshape(-1).tolist() == codes
        assert back[part].reshape(-1).tolist() == [float((c - zero) * Fraction(float(want))) for c in codes]


@pytest.mark.filterwarnings("ignore:torch.quantize:UserWarning")
def test_like_torch():
    torch = pytest.importorskip("torch", reason="torch is not installed")
    x = np.linspace(-9, 9, 1001, dtype=np.float32)
    want = torch.quantize_per_tensor(torch.from_numpy(x), 0.0625, 3, torch.qint8)
    q = quantize(x, "int8", rule="affine", scale=0.0625, zero_point=3)
    assert (q.elements == want.int_repr().numpy()).all() and (q.dequantize() == want.dequantize().numpy()).all()
    observer = torch.ao.quantization.MinMaxObserver(dtype=torch.qint8, qscheme=torch.per_tensor_symmetric)
    observer(torch.from_numpy(X))
    assert quantize(X, "int8", rule="full").scales.reshape(-1) == observer.calculate_qparams()[0].numpy()


def test_nf4():
    levels = np.array(FORMATS["nf4"].values)
    assert np.abs(np.array(normal_float(4)) - levels).max() < 1e-6
    assert len(normal_float(3)) == 8 and normal_float(3)[0] == -1 and normal_float(3)[-1] == 1 and 0 in normal_float(3)
    x = RNG.standard_normal((3, 150)).astype(np.float32)
    q = quantize(x, "nf4")
    for i, j in np.ndindex(3, 3):
        part = x[i, j * 64:(j + 1) * 64].astype(float)
        assert q.scales[i, j] == np.abs(part).max()
        want = np.abs(part[:, None] / np.abs(part).max() - levels).argmin(1)
        assert (q.elements[i, j * 64:(j + 1) * 64] == want).all()
        assert (q.dequantize("f64")[i, j * 64:(j + 1) * 64] == levels[want] * np.abs(part).max()).all()
    assert q.packed.shape == (3, 75) and 20 < sqnr(x, q.dequantize()) < 23


def test_double_quantisation_by_definition():
    """QLoRA, section 3: 256 scales to a block, the mean away, 8 bits; each number in Fractions."""
    x = np.random.default_rng(1).standard_normal((16, 64 * 20)).astype(np.float32)
    q = quantize(x, "nf4")
    for target in ("e4m3", integers.dynamic_table()):
        double = q.with_double_scales(target)
        mean = np.float32(math.fsum(q.scales.reshape(-1).tolist()) / q.scales.size)
        values = [v for v in convert(np.arange(256, dtype=np.uint8), "f64", source=target).tolist() if v == v]
        assert (double.elements == q.elements).all() and double.double.mean == mean and double.double.scales.size == 2
        for i, scale in enumerate(q.scales.reshape(-1)):
            block = (q.scales.reshape(-1)[i // 256 * 256:][:256] - mean).tolist()
            unit = np.float32(max(map(abs, block)) / max(values))
            best = min(abs(Fraction(v) - Fraction(float(scale - mean)) / Fraction(float(unit))) for v in values)
            found = convert(double.double.codes[i:i + 1], "f64", source=target)[0]
            assert abs(Fraction(found) - Fraction(float(scale - mean)) / Fraction(float(unit))) == best
            assert double.scales.reshape(-1)[i] == np.float32(found) * unit + mean
        assert 0 < np.abs(double.scales / q.scales - 1).max() < 0.05 and sqnr(x, double.dequantize()) > sqnr(x, q.dequantize()) - 0.3
    assert quantize(np.zeros((0, 64)), "nf4").with_double_scales().scales.shape == (0, 1)
    one = quantize([3.0, 1.0], "nf4").with_double_scales()
    assert one.scales.tolist() == [3.0] and one.dequantize().tolist()[0] == 3


def test_dynamic_levels():
    """Seven decades, 256 numbers, of both signs but for 1."""
    levels = integers.dynamic_levels()
    assert len(levels) == 256 and levels[127] == 0 and levels[-1] == 1 and abs(levels[0] + 0.99296875) < 1e-12
    assert abs(levels[128] - 0.55e-6) < 1e-18 and [round(-level, 15) for level in levels[:127]] == [
        round(level, 15) for level in levels[:127:-1][1:]]
    assert len(integers.dynamic_levels(4)) == 16


def test_ternary_and_binary_by_their_papers():
    mean = np.float32(np.abs(X).mean(dtype=np.float64))
    q, told = quantize(X, "ternary", return_report=True)
    assert (q.elements.astype(int) == np.clip(np.rint(X / mean), -1, 1)).all() and q.scales == mean
    assert set(q.elements.astype(int).reshape(-1)) == {-1, 0, 1} and told.saturated == (np.abs(X) >= 1.5 * mean).sum()
    beyond = np.abs(X) > 0.7 * np.abs(X).mean(dtype=np.float64)
    q = quantize(X, "twn")
    assert (q.elements.astype(int) == np.sign(X) * beyond).all() and q.scales == np.float32(np.abs(X[beyond]).mean(dtype=np.float64))
    q = quantize(np.where(X > 30, 0, X), "binary", channel=0)
    assert (np.sign(q.dequantize()) == np.where(np.where(X > 30, 0, X) >= 0, 1, -1)).all() and q.packed.shape == (6, 3)


def test_fixed_point():
    x = np.array([0.5, -8, 7.96875, 7.97, 1 / 3, -1 / 32, 3 / 32, 1e9], np.float32)
    q, told = quantize(x, "q3.4", return_report=True)
    assert q.elements.tolist() == [8, -128, 127, 127, 5, 0, 2, 127] and q.scales.tolist() == [0.0625]
    assert (told.saturated, told.flushed) == (3, 1)         # 7.96875 is a tie: it rounds to 128
    assert fixed_point(0, 8, signed=False).quantize([-1, 0.999, 0.5]).elements.tolist() == [0, 255, 128]
    assert quantize(x[:2], "q7.8", rounding="rz").elements.dtype == np.int16
    with pytest.raises(UnknownFormat, match="q9.9 has 19 bits; fixed point takes 1 to 16"):
        fixed_point(9, 9)


def test_corners():
    q = quantize(np.zeros((2, 3), np.float32), "int8", channel=0)
    assert q.scales.reshape(-1).tolist() == [1, 1] and not q.dequantize().any()
    assert quantize(np.array([np.inf, 1, -np.inf, 0.5]), "int8").elements.tolist() == [127, 127, -127, 64]
    assert quantize(np.array([np.nan, 1.0]), "int4", nan="zero").elements.tolist() == [0, 7]
    assert quantize(np.array([5e-324, -5e-324]), "int8").scales.tolist() == [2.0**-149]
    assert quantize(np.zeros((0, 4)), "int8").shape == (0, 4) and quantize(3.0, "int8").dequantize() == 3
    assert quantize(np.zeros((3, 0)), "nf4").scales.shape == (3, 0)
    up = quantize(np.full(4000, 0.3), "int8", scale=1.0, rounding="sr", seed=1)
    assert abs(up.elements.mean() - 0.3) < 0.03
    assert quantize(np.array([1, -2], np.int32), "int8", scale=0.5).elements.tolist() == [2, -4]
    assert quantize([1.0, 2], "int8", scale=[0.5, 0.25], group=1).elements.tolist() == [2, 8]


@pytest.mark.parametrize("how", [{}, {"channel": 1}, {"group": 5}, {"group": 3, "axis": 0}], ids=str)
@pytest.mark.parametrize("name", [*INTEGERS, "int8 full"])
def test_engines_types_and_pieces_alike(name, how, monkeypatch):
    """float32, float64 and bfloat16, with infinities and NaN; reported alike; also cut into many small pieces."""
    name, *rule = name.split()
    options = dict(how, nan="zero", return_report=True, rule=rule[0] if rule else None)
    x = X.copy()
    x[1, 3], x[2, 4], x[5, 19] = np.nan, -np.inf, np.inf
    q, told = quantize(x, name, **options)
    back = q.dequantize("f64")
    assert told.nan == 1 and told.flushed <= ((back == 0) & (x != 0)).sum()
    assert (back[2, 4], back[5, 19]) == (back.min(axis=None), back.max()) or how or name.startswith(("u", "q", "nf4"))
    assert (q.dequantize() == back.astype(np.float32)).all()
    for engine in ("numba", "exact"):
        again, also = quantize(x, name, engine=engine, **options)
        assert (again.codes == q.codes).all() and also == told and (again.scales == q.scales).all()
    assert (quantize(x.astype(np.float64), name, **options)[0].codes == q.codes).all()
    whole = integers.pieces
    monkeypatch.setattr(integers, "pieces", lambda shape, axes, block, limit=0, inside=False: whole(shape, axes, block, 7, inside))
    again, also = quantize(x, name, **options)
    assert (again.codes == q.codes).all() and also == told and (again.scales == q.scales).all()


def test_infinities_of_elements_made_by_a_rule():
    x = np.array([np.inf, -np.inf, 1, -1, 0.1], np.float32)
    assert quantize(x, "twn").elements.tolist() == [1, -1, 1, -1, 0]
    assert quantize(x, "binary").dequantize().tolist()[:2] == [np.float32(0.42), np.float32(-0.42)]


def test_exact_sums():
    rng = np.random.default_rng(2)
    x = rng.standard_normal((40, 300)) * np.exp2(rng.integers(-300, 300, (40, 300)) * (np.arange(40) % 3 > 0)[:, None])
    x[3], x[4, :5] = 0, (1e308, -1e308, 1e308, -1e308, 5e-324)
    narrow = np.ldexp(x[::3], -np.frexp(x[::3])[1] // 4).astype(np.float32)
    for given in (x, narrow, x[:, :1], x[:, :0], np.concatenate([x, -x[:, ::-1], x[:, :1]], 1)):
        assert exact_sums(given).tolist() == [math.fsum(row) for row in given.tolist()]


@pytest.mark.parametrize("call, sentence", [
    (lambda: quantize([[1, np.nan]], "int8"), r"x\[0, 1\] is nan, and int8 has none; choose nan='zero'"),
    (lambda: quantize(X, "int8", nan="max"), "nan is 'max'; integers and tables have none: error or zero"),
    (lambda: quantize(X, "int8", rule="amax"), "rule 'amax' is not known; the rules are symmetric, full, affine"),
    (lambda: quantize(X, "nf4", rule="affine"), "rule affine and elements nf4 do not go together"),
    (lambda: quantize(X, "int8", channel=2), r"channel is 2; x has shape \(6, 20\)"),
    (lambda: quantize(X, "int8", channel=0, group=4), "channel and group are both given"),
    (lambda: quantize(X, "int8", group=0), "group is 0; it takes 1 or more"),
    (lambda: quantize(X, "int8", scale=0.0), "scale holds a number that is not positive and finite"),
    (lambda: quantize(X, "int8", channel=0, scale=[1, 2]), r"scale has shape \(2,\); it must broadcast to \(6, 1\)"),
    (lambda: quantize(X, "nf4", rounding="rz"), "rounding is rz; a table takes the nearest of its numbers, rne"),
    (lambda: quantize(X, "int8", zero_point=0.5), "zero_point holds what is no integer of 32 bits"),
    (lambda: quantize(X, "nf4").with_double_scales("int8"), "scales become int8 in groups of 256; it takes a Float or a Table"),
    (lambda: quantize(X, "int8", group=2.5), "group is 2.5; it takes an integer"),
    (lambda: quantize(X, "int8", scale="x"), "scale is str32; it takes numbers"),
    (lambda: quantize(2.5, "nf4"), r"axis is -1; x has shape \(\) and no axes: give it one, as x\[None\] does"),
    (lambda: hadamard(np.zeros(6)), "axis -1 has length 6; a Hadamard rotation takes a power of two"),
    (lambda: lloyd_max([1, 1, 2], 3), "3 levels take that many different finite numbers"),
    (lambda: twos_complement([128], 8), r"x holds what is no integer of 8 bits, -128..127"),
    (lambda: wrap([1], 64), "bits is 64; it takes 1 to 63"),
])
def test_refusals(call, sentence):
    with pytest.raises(BadOperand, match=sentence):
        call()


def test_twos_complement():
    x = np.arange(-40, 40)
    assert wrap(x, 4).tolist() == [(v + 8) % 16 - 8 for v in x.tolist()]
    assert wrap(x, 4, signed=False).tolist() == [v % 16 for v in x.tolist()]
    assert twos_complement([-1, -128, 127], 8).tolist() == [255, 128, 127]
    assert (from_twos_complement(twos_complement(x, 7), 7) == x).all()


def test_lloyd_max_finds_the_published_levels_of_a_normal_variable():
    """Max 1960, table I, for 2, 4 and 8 levels; and each level is the mean of its numbers."""
    x = np.array([NormalDist().inv_cdf((i + 0.5) / 20000) for i in range(20000)])
    for want in ([0.7980], [0.4528, 1.510], [0.2451, 0.7560, 1.344, 2.152]):
        levels = np.array(lloyd_max(x, 2 * len(want)))
        assert np.abs(levels[len(want):] - want).max() < 0.01 and np.abs(levels + levels[::-1]).max() < 1e-3
    table = Table("lloyd", tuple(levels))
    own = convert(convert(x, table), "f64", source=table)
    for level in np.unique(own):
        assert abs(x[own == level].mean() - level) < 1e-6
    assert sqnr(x, own) == pytest.approx(14.62, abs=0.02)       # Max: mean squared error 0.03454
    assert ScaledFormat("mine", table, "symmetric").quantize(x).shape == x.shape


def test_hadamard():
    matrix = np.array([[1.0]])
    while len(matrix) < 8:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    x = RNG.standard_normal((3, 8, 2))
    assert np.allclose(hadamard(x, axis=1), np.einsum("ij,ajb->aib", matrix / np.sqrt(8), x), atol=1e-14)
    wide = RNG.standard_normal((5, 1024)).astype(np.float32)
    wide[0, 7] = 1e4
    turned = hadamard(wide, seed=9)
    assert np.allclose((turned**2).sum(1), (wide.astype(float) ** 2).sum(1)) and np.abs(turned).max() < 400
    assert (hadamard(turned, seed=9, inverse=True).astype(np.float32) == wide).all()
    assert not np.allclose(turned, hadamard(wide, seed=10))
    whole = RNG.integers(-99, 99, 64).astype(float)
    assert (hadamard(hadamard(whole, 3), 3, inverse=True) == whole).all()


def test_reports():
    x = RNG.uniform(-1, 1, 20000)
    assert sqnr(x, x) == math.inf and sqnr([1.0, 2], [1.0, 1]) == pytest.approx(10 * math.log10(5))
    assert sqnr(x, quantize(x, "int8").dequantize("f64")) == pytest.approx(20 * math.log10(254), abs=0.1)     # uniform: steps squared
    assert clipping([1, -2, 3, 4], 2) == {"clipped": 2, "share": 0.5, "energy": 5 / 30}


def test_rows_and_names():
    assert set(INTEGERS) >= {"int8", "int4", "int2", "uint8", "nf4", "ternary", "twn", "binary", "q7.8"}
    assert repr(quantize(X, "int4", group=10)) == "<int4 (6, 20), 12 scales>"
    with pytest.raises(UnknownFormat, match="rule 'x' is not known"):
        ScaledFormat("mine", FORMATS["int8"], "x")
