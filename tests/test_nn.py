"""Training on emulated instructions: gradients against PyTorch and finite differences, bits, checkpoints, recipes."""

import os
import signal
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

import emulator
from emulator.cli import main
from emulator.errors import BadOperand, UnknownInstruction
from emulator.nn import (
    MLP,
    RECIPES,
    SGD,
    AdamW,
    Blocks,
    Counts,
    Gemm,
    Hadamard,
    Integers,
    Operand,
    Plain,
    Products,
    Recipe,
    Run,
    Scaled,
    StraightThrough,
    Task,
    TernaryNoise,
    Transformer,
    Where,
    compare,
    depth,
    figure,
    generate,
    knobs,
    layers,
    sensitivity,
    table,
    train,
    unit_for,
)
from emulator.nn.data import Data, characters, choose
from emulator.nn.functions import exp, key, log, sigmoid, total, uniform
from emulator.nn.training import _adamw

F32 = np.float32
FP32 = Products(RECIPES["fp32"])


def normal(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(F32)


# --- functions -------------------------------------------------------------------------------------------------------

def ulps(got, want):
    return np.abs(got.astype(np.float64) - want) / np.spacing(np.abs(want).astype(F32)).astype(np.float64)


def test_exp_log_sigmoid_are_close():
    x = np.concatenate([np.linspace(-86.6, 88.7, 200_001), normal(20_000)]).astype(F32)
    assert ulps(exp(x), np.exp(x.astype(np.float64))).max() < 1
    assert ulps(sigmoid(x), 1 / (1 + np.exp(-x.astype(np.float64)))).max() < 2.5
    positive = np.exp(np.linspace(-80, 80, 100_001)).astype(F32)
    assert ulps(log(positive), np.log(positive.astype(np.float64))).max() <= 0.5
    edge = exp(np.array([-np.inf, -87, 0, 88.8, np.inf, np.nan], F32))
    assert edge[:5].tolist() == [0, 0, 1, np.inf, np.inf] and np.isnan(edge[5])


def test_a_nan_of_any_payload_stays_nan():
    assert np.isnan(exp(np.array([0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00001], np.uint32).view(F32))).all()


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 100])
def test_sums(n):
    x = np.random.default_rng(n).integers(-1000, 1000, (n, 5)).astype(F32)
    assert np.array_equal(total(x, 0), x.sum(0)) and np.array_equal(total(x.T, -1), x.sum(0))


def test_sums_have_the_written_order():
    """1 + 2^-24 + 2^-24 + ... : halves are added first, so that small numbers meet small ones."""
    x = np.array([1, 2**-24, 2**-25, 2**-25], F32)
    assert total(x, 0) == (F32(1) + F32(2**-25)) + (F32(2**-24) + F32(2**-25)) == 1 + 2**-23


# --- gradients -------------------------------------------------------------------------------------------------------

def differences(f, x, eps=1e-2):
    """The gradient of f by x, in float64 from float32 evaluations a little apart."""
    g = np.zeros(x.shape)
    for i in np.ndindex(x.shape):
        kept = x[i]
        x[i] = kept + F32(eps)
        up, above = f(), x[i]
        x[i] = kept - F32(eps)
        g[i] = (up - f()) / (np.float64(above) - np.float64(x[i]))
        x[i] = kept
    return g


def close(got, want, tolerance=2e-3):
    return np.abs(got - want).max() <= tolerance * max(1e-2, np.abs(want).max())


def model_of(kind):
    if kind == "transformer":
        model = Transformer(11, context=6, width=8, heads=2, depth=2, seed=3)
        ids = np.random.default_rng(1).integers(0, 11, (2, 7))
        batch = ids[:, :-1], ids[:, 1:]
    else:
        activation, loss = kind
        model = MLP((5, 7, 6, 4), activation, loss, seed=3)
        batch = normal(8, 5), np.arange(8) % 4
    rng = np.random.default_rng(5)          # away from the small numbers of the start
    model.weights.flat += (rng.standard_normal(model.weights.flat.shape) * 0.3).astype(F32)
    return model, batch


@pytest.mark.parametrize("kind", ["transformer", ("sigmoid", "mse"), ("silu", "cross_entropy"), ("gelu", "cross_entropy")])
def test_gradients_by_differences(kind):
    model, (x, target) = model_of(kind)
    m = Products(RECIPES["numpy"])
    model.loss(m, x, target)
    got = model.gradients.flat.copy()
    rng, flat = np.random.default_rng(0), model.weights.flat
    for i in rng.choice(flat.size, 60, replace=False):
        piece = flat[i:i + 1]
        want = differences(lambda: model.loss(m, x, target), piece)
        assert abs(got[i] - want[0]) < 2e-3 * max(0.1, np.abs(got).max()), (i, got[i], want)


def test_gradients_of_norms_by_differences():
    x, g, b, dy = normal(3, 6), normal(6, seed=1), normal(6, seed=2), normal(3, 6, seed=3)
    y, saved = layers.layer_norm(x, g, b)
    found = layers.layer_norm_back(dy, saved, g)
    for got, by in zip(found, (x, g, b)):
        assert close(got, differences(lambda: float((layers.layer_norm(x, g, b)[0].astype(np.float64) * dy).sum()), by))
    found = layers.rms_norm_back(dy, layers.rms_norm(x, g)[1], g)
    for got, by in zip(found, (x, g)):
        assert close(got, differences(lambda: float((layers.rms_norm(x, g)[0].astype(np.float64) * dy).sum()), by))


def test_layers_against_torch():
    torch = pytest.importorskip("torch", reason="torch, the judge, is not installed")
    functional = torch.nn.functional

    def check(forward, back, reference, *inputs):
        tensors = [torch.from_numpy(x.copy()).requires_grad_() for x in inputs]
        want = reference(*tensors)
        got = forward(*inputs)
        dy = normal(*got.shape, seed=9)
        want.backward(torch.from_numpy(dy))
        assert close(got, want.detach().numpy(), 1e-5)
        for found, tensor in zip(back(dy, *inputs), tensors):
            assert close(found, tensor.grad.numpy(), 1e-5)

    for name, reference in (("relu", functional.relu), ("silu", functional.silu), ("sigmoid", torch.sigmoid),
                            ("gelu", lambda x: functional.gelu(x, approximate="tanh"))):
        forward, back = layers.ACTIVATIONS[name]
        check(forward, lambda dy, x, f=forward, b=back: [b(dy, x, f(x))], reference, normal(40, 30) * F32(4))
    check(lambda x, g, b: layers.layer_norm(x, g, b)[0], lambda dy, x, g, b: layers.layer_norm_back(dy, layers.layer_norm(x, g, b)[1], g),
          lambda x, g, b: functional.layer_norm(x, (12,), g, b), normal(9, 12), normal(12, seed=1), normal(12, seed=2))
    check(lambda x, g: layers.rms_norm(x, g)[0], lambda dy, x, g: layers.rms_norm_back(dy, layers.rms_norm(x, g)[1], g),
          lambda x, g: functional.rms_norm(x, (12,), g, eps=1e-5), normal(9, 12), normal(12, seed=1))
    check(lambda x, w, b: layers.linear(FP32, "l", x, w, b), lambda dy, x, w, b: layers.linear_back(FP32, "l", dy, x, w),
          lambda x, w, b: x @ w + b, normal(10, 6), normal(6, 4), normal(4))

    def heads(qkv):
        q, k, v = qkv.reshape(2, 5, 3, 2, 4).permute(2, 0, 3, 1, 4)
        return functional.scaled_dot_product_attention(q, k, v, is_causal=True).permute(0, 2, 1, 3).reshape(2, 5, 8)
    check(lambda x: layers.attention(FP32, "a", x, 2)[0],
          lambda dy, x: [layers.attention_back(FP32, "a", dy, layers.attention(FP32, "a", x, 2)[1])], heads, normal(2, 5, 24))

    ids, w = np.array([[1, 3], [3, 0]]), normal(4, 3)
    table = torch.from_numpy(w.copy()).requires_grad_()
    dy = normal(2, 2, 3, seed=4)
    functional.embedding(torch.from_numpy(ids), table).backward(torch.from_numpy(dy))
    assert np.array_equal(layers.embedding(ids, w), w[ids]) and close(layers.embedding_back(dy, ids, 4), table.grad.numpy(), 1e-6)

    logits, target = normal(7, 5) * F32(30), np.arange(7) % 5
    for loss, reference, against in ((layers.cross_entropy, functional.cross_entropy, torch.from_numpy(target)),
                                     (layers.mse, functional.mse_loss, torch.from_numpy(normal(7, 5, seed=2)))):
        tensor = torch.from_numpy(logits.copy()).requires_grad_()
        want = reference(tensor, against)
        want.backward()
        got, d = loss(logits, against.numpy())
        assert abs(got - want.item()) < 1e-5 * want.item() and close(d, tensor.grad.numpy(), 1e-5)


def test_the_whole_transformer_against_torch():
    torch = pytest.importorskip("torch", reason="torch, the judge, is not installed")
    functional = torch.nn.functional
    model, (x, target) = model_of("transformer")
    loss = model.loss(FP32, x, target)
    w = {name: torch.from_numpy(value.copy()).requires_grad_() for name, value in model.weights.items()}
    h = w["token"][torch.from_numpy(x)] + w["place"]
    for i in range(2):
        at = f"blocks.{i}."
        qkv = functional.layer_norm(h, (8,), w[at + "norm1.g"], w[at + "norm1.b"]) @ w[at + "qkv"]
        q, k, v = qkv.reshape(2, 6, 3, 2, 4).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True).permute(0, 2, 1, 3).reshape(2, 6, 8)
        h = h + mixed @ w[at + "out"]
        up = functional.layer_norm(h, (8,), w[at + "norm2.g"], w[at + "norm2.b"]) @ w[at + "up"] + w[at + "up.b"]
        h = h + functional.gelu(up, approximate="tanh") @ w[at + "down"] + w[at + "down.b"]
    logits = functional.layer_norm(h, (8,), w["norm.g"], w["norm.b"]) @ w["head"]
    want = functional.cross_entropy(logits.reshape(-1, 11), torch.from_numpy(target).reshape(-1))
    want.backward()
    assert abs(loss - want.item()) < 1e-5
    for name, tensor in w.items():
        assert close(model.gradients[name], tensor.grad.numpy(), 1e-4), name


def test_optimizers_against_torch():
    torch = pytest.importorskip("torch", reason="torch, the judge, is not installed")
    for ours, theirs in ((SGD(20, momentum=0.9), lambda p: torch.optim.SGD(p, 0.1, momentum=0.9)),
                         (SGD(20), lambda p: torch.optim.SGD(p, 0.1)),
                         (AdamW(np.full(20, 0.1, F32)), lambda p: torch.optim.AdamW(p, 0.1, betas=(0.9, 0.99), weight_decay=0.1))):
        w = normal(20)
        parameter = torch.from_numpy(w.copy()).requires_grad_()
        optimizer = theirs([parameter])
        for step in range(5):
            g = normal(20, seed=step)
            ours.step(w, g, 0.1)
            parameter.grad = torch.from_numpy(g)
            optimizer.step()
        assert close(w, parameter.detach().numpy(), 1e-5)


# --- the worked neuron -----------------------------------------------------------------------------------------------

def neuron(steps, weights=None, recipe="fp32"):
    """y = w x + b with x = 2, w = 0.5, b = 0.1, t = 3, learning rate 0.01: w, b and the gradient of w, by steps."""
    m, path = Products(RECIPES[recipe]), []
    x, w, b, t = (np.array([[v]], F32) for v in (2, 0.5, 0.1, 3))
    for step in range(steps):
        _, dy = layers.mse(layers.linear(m, "neuron", x, w, b[0]), t)
        _, dw, db = layers.linear_back(m, "neuron", dy, x, w)
        for value, g in ((w, dw), (b, db)):
            SGD(1).step(value, g, 0.01)
            if weights:
                value[...] = weights(value, -1, Where(7, step, "w", {})).codes.astype(F32)
        path.append((w.item(), b.item(), dw.item()))
    return np.array(path)


def test_the_worked_numbers_of_a_neuron():
    path = neuron(300)
    assert np.allclose(path[0], [0.576, 0.138, -7.6], atol=1e-6)
    assert abs(2 * path[-1][0] + path[-1][1] - 3) < 1e-5


def test_bf16_loses_updates_that_master_weights_keep():
    """Once an update is below half a unit of w in bfloat16 it is lost, and y stops short of t for good; rounded
    stochastically it is not lost on average, and with float32 master weights never."""
    short = {name: 3 - (2 * path[:, 0] + path[:, 1]) for name, path in (
        ("stored", neuron(300, Plain("bfloat16"))), ("sr", neuron(300, Plain("bfloat16", "sr"))), ("master", neuron(300)))}
    assert (short["stored"][100:] == short["stored"][-1]).all() and short["stored"][-1] > 0.04
    assert abs(short["master"][-1]) < 1e-5 and abs(short["sr"][100:].mean()) < 0.01


# --- runs ------------------------------------------------------------------------------------------------------------

WORDS = " ".join(f"{a} {b}s {c}." for a in ("one", "two", "no") for b in ("cat", "dog", "bird") for c in ("sit", "run", "sing"))
TINY = "tiny", Task(lambda: characters(WORDS, 16), lambda found, seed: Transformer(len(found.letters), 16, 16, 2, 2, seed=seed),
                    _adamw, batch=4, rate=1e-2, steps=20, warmup=3)


def tiny(recipe, steps=20, **choices):
    return train(TINY, recipe, steps=steps, seed=1, **choices)


TWINS = "bf16-weights-sr fp8 fp8-delayed fp8-hopper nvfp4-nearest int8-weights int8 int4 binary".split()     # of others that run
RAN = [pytest.param(name, marks=[pytest.mark.exhaustive] * (name in TWINS)) for name in RECIPES if name != "numpy"]


@pytest.mark.parametrize("recipe", RAN)
def test_every_recipe_learns(recipe):
    run = tiny(recipe, 10)
    assert np.mean(run.losses[-3:]) < run.losses[0] - 0.3, run.losses


# --- the same bits ---------------------------------------------------------------------------------------------------

def small_data():
    x = uniform(key(0, "x"), (256, 24))
    return Data(x, x[:, :4].argmax(-1), x[:64], x[:64, :4].argmax(-1))


SMALL = "small", Task(small_data, lambda found, seed: MLP((24, 33, 4), "gelu", "cross_entropy", seed), _adamw, batch=20,
                      rate=1e-2, steps=100)
MIXED = Recipe("mixed", Gemm(Scaled("float8_e4m3fn", history=3), Scaled("float8_e5m2", "sr")), Gemm(Plain("float16"), Plain("float16")),
               Gemm(Plain("float32"), Plain("float32")), keep=("head",), weights=Plain("bfloat16", "sr"))
# What the weights of these runs are, anywhere. They are this program's own: they say that no bit depends on the machine,
# not that a bit is right.
SMALL_DIGEST, NVFP4_DIGEST = "973c3311670ef24c", "349f41a775d7dbb9"


@pytest.fixture
def the_same_bits(monkeypatch):
    """Weights after 100 steps, and of a transformer by the recipe that has most in it after 5, with the engine given."""
    def check(**choices):
        monkeypatch.setenv("EMULATOR_ENGINE", choices["engine"])
        assert train(SMALL, MIXED, seed=1, **choices).digest()[:16] == SMALL_DIGEST
        assert tiny("nvfp4", 5, **choices).digest()[:16] == NVFP4_DIGEST
    return check


@pytest.mark.usefixtures("c_engine")
@pytest.mark.parametrize("threads", [1, 3])
def test_the_same_seed_gives_the_same_bits_on_any_threads(threads, the_same_bits):
    the_same_bits(engine="c", threads=threads)


@pytest.mark.parametrize("isa", ["avx512", "avx2", "portable"], indirect=True)
def test_the_same_seed_gives_the_same_bits_on_any_cpu(isa, the_same_bits):
    the_same_bits(engine="c")


def test_the_same_seed_gives_the_same_bits_on_numba(the_same_bits):
    the_same_bits(engine="numba")


def test_another_seed_gives_other_bits():
    assert train(SMALL, MIXED, seed=2).digest() != train(SMALL, MIXED, seed=3).digest()


# --- checkpoints -----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("recipe", ["fp16", "bf16-weights-sr", "fp8-delayed"])
def test_a_resumed_run_is_the_same_run(recipe, tmp_path):
    whole = tiny(recipe, 12)
    run = Run(TINY, recipe, steps=12, seed=1)
    for _ in range(5):
        run.advance()
    run.evaluate()                              # reads, and leaves no trace
    run.save(tmp_path / "run.npz")
    again = Run.load(tmp_path / "run.npz", task=TINY[1])
    assert (again.step, again.losses, again.loss_scale) == (5, run.losses, run.loss_scale)
    while again.step < again.steps:
        again.advance()
    assert again.digest() == whole.digest() and again.losses == whole.losses


def test_checkpoints_hold_no_objects_and_bad_ones_are_refused(tmp_path):
    run, path = Run(TINY, "fp16", seed=1), tmp_path / "run.npz"
    run.save(path)
    with np.load(path, allow_pickle=False) as file:
        assert all(file[name].dtype != object for name in file.files)
    assert [each.name for each in tmp_path.iterdir()] == ["run.npz"]
    other = Task(lambda: characters(WORDS + "!", 16), *[getattr(TINY[1], name) for name in ("model", "optimizer", "batch", "rate", "steps")])
    with pytest.raises(BadOperand, match="its data are not those"):
        Run.load(path, task=other)
    for content in (b"", b"PK\x03\x04 nonsense", path.read_bytes()[:-100]):
        path.write_bytes(content)
        with pytest.raises(BadOperand, match="no checkpoint"):
            Run.load(path, task=TINY[1])


# --- recipes ---------------------------------------------------------------------------------------------------------

def test_fp16_skips_what_overflows_and_scales_down():
    run = Run(TINY, "fp16", seed=1)
    run.loss_scale, before = 2.0**40, run.digest()
    run.advance()
    assert run.digest() == before and run.loss_scale == 2.0**39
    run.loss_scale = 2.0**10
    run.advance()
    assert run.digest() != before


def test_instructions_are_found_by_format():
    assert unit_for("sm_100", "bfloat16", "bfloat16").name == "tcgen05.mma.m128n256k16.kind::f16.f32.bf16.bf16"
    assert unit_for("sm_90", "float8_e4m3fn", "float8_e5m2").name == "wgmma.m64n256k32.f32.e4m3.e5m2"
    assert unit_for("sm_80", "bfloat16", "bfloat16").name == "mma.m16n8k16.f32.bf16.bf16.f32"
    assert unit_for("sm_70", "float32", "float32").name == "fma.rn.f32"
    assert unit_for("gfx942", "float8_e4m3fnuz", "float8_e5m2fnuz").name == "v_mfma_f32_16x16x32_fp8_bf8"
    assert unit_for("x86_64", "bfloat16", "bfloat16").name == "tdpbf16ps"
    assert Run(TINY, "fp8-hopper", arch="h100").m.arch == "sm_90"
    with pytest.raises(UnknownInstruction, match="sm_80 has no instruction that multiplies float8_e4m3fn"):
        unit_for("sm_80", "float8_e4m3fn", "float8_e4m3fn")


def test_products_do_what_the_recipe_says():
    """An fp8 product, by hand: both operands scaled to 448, multiplied on the instruction, scaled back."""
    a, b = normal(5, 40), normal(40, 7, seed=1)
    sa, sb = (F32(448) / np.abs(x).max() for x in (a, b))
    qa, qb = (emulator.convert(x * s, "float8_e4m3fn", overflow="saturate") for x, s in ((a, sa), (b, sb)))
    on = emulator.instruction("sm_90", "wgmma.m64n8k32.f32.e4m3.e4m3")
    want = emulator.matmul(qa, qb, on=on) * (F32(1) / sa * (F32(1) / sb))
    m = Products(RECIPES["fp8-hopper"])
    assert np.array_equal(m("forward", "blocks.0.up", a, b), want)
    promoted = emulator.matmul(np.tile(qa, 4), np.tile(qb, (4, 1)), on=on, schedule=emulator.Promote(128)) * (F32(1) / sa * (F32(1) / sb))
    assert np.array_equal(Products(RECIPES["fp8-hopper-promote"])("forward", "l", np.tile(a, 4), np.tile(b, (4, 1))), promoted)


def test_names_pick_the_products_that_are_kept():
    recipe = Recipe("r", *[Gemm(Plain("float16"), Plain("float16"))] * 3, keep=("head", "blocks.-1.*"))
    m = Products(recipe, depth=3)
    kept = [m.gemm("forward", name) is recipe.kept for name in ("head", "blocks.2.up", "blocks.1.up", "blocks.0.qkv")]
    assert kept == [True, True, False, False]
    assert m.gemm("forward", "blocks.2.attention.scores") is recipe.attention and m.gemm("dgrad", "blocks.1.up") is recipe.dgrad


def test_delayed_scales_follow_the_steps_before():
    cast, memory = Scaled("float8_e4m3fn", history=2), {}
    scales = [cast(np.full((2, 2), x, F32), -1, Where(0, i, "n", memory)).scale for i, x in enumerate((4, 8, 2, 2, 1))]
    assert [float(s) for s in scales] == [1, F32(1) / F32(112), F32(1) / F32(56), F32(1) / F32(56), F32(1) / F32(224)]


def test_random_bits_differ_by_layer_step_and_seed():
    x = normal(64, 64)
    seen = {Plain("bfloat16", "sr")(x, -1, Where(seed, step, name, {})).codes.tobytes()
            for seed in (0, 1) for step in (0, 1) for name in ("a", "b")}
    assert len(seen) == 8
    assert (choose(1, "n", 0, 10_000, 7) < 7).all() and set(choose(1, "n", 0, 1000, 7)) == set(range(7))


# --- casts -----------------------------------------------------------------------------------------------------------

def here(name="l"):
    return Where(1, 0, name, {})


@pytest.mark.parametrize("cast, axis", [
    (Scaled("float8_e4m3fn"), -1), (Blocks("mxfp8_e4m3", rule="rceil"), -2), (Blocks("nvfp4", mode="te"), -1), (Integers("int8"), -2),
    (Blocks("nvfp4", tile=True, mode="te"), -2), (Integers("int4", "group"), -2), (Integers("ternary", "tensor"), -1), (Integers("binary", "tensor"), -1)])
def test_values_are_what_an_operand_stands_for(cast, axis):
    """As the quantised arrays themselves say, where there are such; and near x."""
    x = normal(48, 80)
    operand = cast(x, axis, here())
    got = operand.values(axis)
    if isinstance(cast, Blocks):
        q = emulator.quantize(x, cast.format, axis=(0, 1) if cast.tile else axis, block=(16, 16) if cast.tile else None,
                              rule=cast.rule, mode=cast.mode)
        assert np.allclose(got, q.dequantize(), rtol=1e-6)
    if isinstance(cast, Integers):
        options = {"channel": {"channel": 1}, "group": {"group": 32, "axis": 0}, "tensor": {}}[cast.by]
        assert np.allclose(got, emulator.quantize(x, cast.format, **options).dequantize(), rtol=1e-6)
    assert np.linalg.norm(got - x) < 0.7 * np.linalg.norm(x)


def test_tiles_give_the_transposed_matrix_the_same_codes():
    w, cast = normal(64, 32), Blocks("nvfp4", tile=True, mode="te")
    there, back = cast(w, -2, here()), cast(w.T, -2, here())
    assert np.array_equal(there.codes.view(np.uint8), back.codes.T.view(np.uint8))
    assert np.array_equal(there.values(-2), back.values(-2).T)


def test_a_block_scaled_product_by_hand():
    a, b = normal(16, 96), normal(96, 24, seed=1)
    qa, qb = emulator.quantize(a, "nvfp4", mode="te"), emulator.quantize(b, "nvfp4", axis=(0, 1), block=(16, 16), mode="te")
    on = emulator.instruction("sm_100", "tcgen05.mma.m128n8k64.kind::mxf4nvf4.scale_vec::4X.f32.e2m1.e2m1.ue4m3")
    want = emulator.matmul(qa.elements, qb.elements, on=on, scale_a=qa.scales, scale_b=np.repeat(qb.scales, 16, 1)[:, :24])
    got = Products(RECIPES["nvfp4"])("forward", "blocks.0.up", a, b)
    assert np.array_equal(got, want * (qa.tensor_scale * qb.tensor_scale))


def test_the_hadamard_transform_leaves_a_product_as_it_is():
    """Orthogonal: x H times H^T y. What bfloat16 rounds away is all that differs; and an outlier is spread out."""
    x, y = normal(8, 64), normal(64, 8, seed=1)
    m = Products(Recipe("h", *[Gemm(Hadamard(Plain("float32")), Hadamard(Plain("float32")))] * 3))
    assert np.abs(m("forward", "l", x, y) - x @ y).max() < 0.2
    spike = np.zeros((1, 16), F32)
    spike[0, 3] = 4
    assert np.array_equal(np.abs(Hadamard(Plain("float32"))(spike, -1, here()).codes), np.ones((1, 16)))
    with pytest.raises(BadOperand, match="no multiple of 16"):
        Hadamard(Plain("float32"))(normal(3, 20), -1, here())


def test_straight_through_quantises_the_transposed_weight_as_the_forward_pass_does():
    w = normal(40, 24)
    forward = Integers("int8")(w, -2, here()).values(-2)
    back = StraightThrough(Integers("int8"), turned=True)(w.T, -2, here())
    assert np.array_equal(back.codes, emulator.convert(forward, "bfloat16").T)


def test_ternary_gradients_are_right_on_average():
    g = normal(40, 40)
    draws = [TernaryNoise()(g, -1, Where(1, step, "g", {})).values(-1) for step in range(200)]
    assert {float(x) for x in np.unique(draws[0] / np.abs(g).max())} <= {-1.0, 0.0, 1.0}
    assert np.abs(np.mean(draws, axis=0) - g).max() < 1.2


# --- diagnosis -------------------------------------------------------------------------------------------------------

def test_counts():
    x = np.array([[1, 2000, 1e-9, 0, np.nan, 448, 460]], F32)
    counts = Counts()
    counts.add(x, Operand(emulator.convert(x, "float8_e4m3fn", overflow="saturate"), "float8_e4m3fn"), -1)
    assert (counts.elements, counts.saturated, counts.flushed, counts.nan) == (7, 1, 1, 1)
    half = Counts()
    half.add(np.array([[70000, 3]], F32), Operand(np.array([[np.inf, 3]], np.float16), "float16"), -1)
    assert (half.saturated, half.flushed, half.relative) == (1, 0, 0)


def test_comparing_recipes_writes_a_table_and_a_figure(tmp_path):
    pytest.importorskip("matplotlib", reason="pictures need matplotlib, which is not installed")
    found = list(compare(TINY, ["fp32", "fp8", "mxfp4"], steps=6, every=3, seed=1))
    assert [len(each.losses) for each in found] == [6, 6, 6] and found[0].losses[0] == tiny("fp32", 1).losses[0]
    lines = table(found).splitlines()
    assert lines[0].split()[:4] == ["recipe", "loss", "to", "fp32"] and lines[1].split()[2] == "+0.00%"
    exact, coarse = found[0].counts["gradients"], found[2].counts["gradients"]
    assert exact.relative == 0 and coarse.relative > 0.05 and coarse.flushed > 0
    figure(found, tmp_path / "f.png", "tiny")
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")


def test_where_it_hurts():
    """Errors come from the layers that the recipe quantises, and grow on the way."""
    run = tiny("nvfp4", 10)
    before = run.digest()
    errors = {name: error for name, error, _ in sensitivity(run)}
    assert errors["blocks.0.up"] > 0.05 > 0.005 > errors["blocks.1.up"] and errors["head"] < 0.005
    assert run.digest() == before
    path = depth(run)
    assert [name for name, _ in path][:2] == ["blocks.0.qkv", "blocks.0.attention.scores"] and all(error > 0 for _, error in path)
    assert all(error == 0 for _, error in depth(tiny("fp32", 2)))


def test_one_knob_at_a_time():
    found = knobs(RECIPES["fp8-hopper"])
    assert {name.split(", ")[1].split(":")[0] for name in found} == {"as it is", "rounding", "format", "scale", "accumulator"}
    changed = found["fp8-hopper, rounding: sr"]
    assert changed.forward.a == replace(RECIPES["fp8-hopper"].forward.a, rounding="sr") and changed.arch == "sm_90"
    assert "mxfp8, scale: floor" in knobs(RECIPES["mxfp8"])


def test_diagnose_on_the_command_line(tmp_path):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, which is not installed")
    run, path = Run("digits", "mxfp8", steps=5), str(tmp_path / "run.npz")
    run.advance()
    run.save(path)
    got = CliRunner().invoke(main, ["diagnose", path])
    assert got.exit_code == 0 and "layer0" in got.output and "head" in got.output, got.output
    got = CliRunner().invoke(main, ["train", "digits", "--compare", "fp32,int8", "--steps", "3", "--out", str(tmp_path / "out")])
    assert got.exit_code == 0 and (tmp_path / "out" / "compare.txt").read_text().splitlines()[0] in got.output


def test_hopper_without_promotion_errs_at_large_k():
    """13 bits hold little of a long sum: the error of 4096 products grows, and promotion every 128 keeps it down."""
    a, b = np.abs(normal(16, 4096)), np.abs(normal(4096, 16, seed=1))
    errors = []
    for recipe in ("fp8-hopper", "fp8-hopper-promote", "fp8"):
        m = Products(RECIPES[recipe])
        kept = Products(replace(RECIPES[recipe], forward=Gemm(*[replace(RECIPES[recipe].forward.a)] * 2)), m.arch)
        x, y = (kept.gemm("forward", "l").a(z, -1, here()).values(-1).astype(np.float64) for z in (a, b))
        errors.append(np.abs(m("forward", "l", a, b) / (x @ y) - 1).max())
    assert errors[0] > 8 * errors[1] and errors[0] > 0.005 and errors[2] < 1e-4


# --- the command line ------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("task, steps", [("digits", 400), ("digits-sigmoid", 3000)])
def test_digits_reach_96_percent(task, steps):
    """The classic network and its sister, every product in bfloat16, on digits they have not seen."""
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, which is not installed")
    assert train(task, "bf16", steps=steps, seed=0).evaluate()["accuracy"] >= 0.96


def test_train_resume_and_generate(tmp_path, monkeypatch):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, which is not installed")
    run = CliRunner().invoke
    path = str(tmp_path / "run.npz")
    whole = run(main, ["train", "digits", "--recipe", "fp8", "--steps", "30", "--seed", "3"])
    assert whole.exit_code == 0 and "digits fp8 on sm_100: 30 steps, loss" in whole.output and "% right" in whole.output

    def interrupted(self, advance=Run.advance):
        if self.step == 11:
            os.kill(os.getpid(), signal.SIGINT)
        return advance(self)
    with monkeypatch.context() as patch:
        patch.setattr(Run, "advance", interrupted)
        half = run(main, ["train", "digits", "--recipe", "fp8", "--steps", "30", "--seed", "3", "--checkpoint", path])
    assert half.exit_code == 1 and "stopped at step 12 of 30; go on with: emulator train digits" in half.output
    again = run(main, ["train", "digits", "--checkpoint", path, "--resume"])
    assert again.exit_code == 0 and again.output.split()[-1] == whole.output.split()[-1]

    text = Run("text", "numpy", steps=1)
    text.save(path)
    wrote = run(main, ["generate", path, "--length", "20", "--prompt", "The ", "--seed", "1"])
    assert wrote.exit_code == 0 and wrote.output.startswith("The ") and len(wrote.output) == 25
    assert wrote.output[:-1] == "The " + "".join(generate(text, 20, seed=1))


@pytest.mark.parametrize("arguments, said", [
    (["train", "digits", "--recipe", "fp7"], "recipe 'fp7' is not known; the recipes are numpy, fp32"),
    (["train", "digits", "--recipe", "fp8", "--arch", "sm_80"], "sm_80 has no instruction that multiplies float8_e4m3fn"),
    (["train", "digits", "--recipe", "fp8-hopper", "--arch", "sm_100"], "recipe fp8-hopper is about sm_90"),
    (["train", "digits", "--resume"], "--resume goes on with the run in --checkpoint"),
    (["train", "digits", "--resume", "--checkpoint", "nowhere.npz"], "nowhere.npz is not there"),
    (["train", "text", "--checkpoint", __file__], "is there already"),
    (["generate", __file__], "is no checkpoint"),
])
def test_refusals(arguments, said):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, which is not installed")
    got = CliRunner().invoke(main, arguments)
    assert got.exit_code == 2 and said in got.output, got.output


def test_generate_refuses():
    run = Run(TINY, "numpy")
    assert "".join(generate(run, 5, prompt="one", temperature=0)) == "".join(generate(run, 5, prompt="one", temperature=0, seed=9))
    for choices in ({"prompt": "Ω"}, {"prompt": ""}, {"temperature": -1}):
        with pytest.raises(BadOperand, match="prompt is"):
            generate(run, 5, **{"prompt": "one", **choices})
    with pytest.raises(BadOperand, match="writes no text"):
        generate(Run(SMALL, "numpy"), 5)


def test_the_recipes_page_runs():
    import doctest

    from emulator.nn import recipes

    pytest.importorskip("sklearn", reason="the digits come with scikit-learn, which is not installed")
    failed, tried = doctest.testmod(recipes)
    assert tried >= 4 and not failed
