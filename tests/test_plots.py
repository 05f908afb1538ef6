"""Pictures: what is drawn is what the rooms say, files are SVG or PNG and the same each time."""

import numpy as np
import pytest
from click.testing import CliRunner

import emulator
from emulator import cli

pytest.importorskip("matplotlib", reason="pictures need matplotlib, which is not installed")
from emulator import plots  # noqa: E402
from emulator.fragments import copy_fragment, fragment  # noqa: E402


def labels(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def test_fragments_are_labelled():
    held = fragment(emulator.find("sm_80", "mma.m16n8k16.f32.f16.f16.f32"), "b")
    want = [f"{t}:{r}.{bit}" for t, r, bit in (held.where(*place) for place in np.ndindex(16, 8))]
    assert labels(plots.draw_fragment(held)) == want
    big = fragment(emulator.find("sm_90", "wgmma.m64n256k16.f32.f16.f16"), "d")
    assert labels(plots.draw_fragment(big)) == []
    assert labels(plots.draw_fragment(copy_fragment("tcgen05.ld.32x32b.x1")))[5] == "5:0"


def test_swizzles_and_banks_are_drawn():
    assert labels(plots.draw_swizzle("128B"))[8:11] == ["1: 16", "1: 0", "1: 48"]
    assert labels(plots.draw_swizzle("128B_ATOM_32B_FLIP_8B", 4))[16:18] == ["1: 40", "1: 32"]
    figure = plots.draw_banks(np.arange(32) * 128, 16)
    assert labels(figure)[:5] == ["8", "8", "8", "8", ""]
    assert "4 phases, 32 wavefronts, 28 conflicts, 8-way" in figure.axes[0].get_title()


def test_spacing_and_errors_are_those_of_the_formats():
    (line, other) = plots.draw_spacing(["e2m1", "e4m3"]).axes[0].lines
    assert line.get_xdata().tolist() == [0.5, 1, 1.5, 2, 3, 4] and line.get_ydata().tolist() == [1, 0.5, 1 / 3, 0.5, 1 / 3, 0.5]
    assert other.get_label() == "float8_e4m3fn" and len(other.get_xdata()) == 125
    axes = plots.draw_errors(["bf16", "e2m1"], [1, 5, np.nan]).axes[0]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "bfloat16, root mean square 0", "float4_e2m1fn, root mean square 0.14"]
    with pytest.raises(emulator.BadOperand, match="a table of values is for at most 16"):
        plots.draw_spacing(["f32"])


def test_command_line(tmp_path):
    for words, name in (("fragment sm_90 stmatrix.m8n8.x1.b16", "a.svg"), ("swizzle 64B", "b.svg"),
                        ("banks --stride 144", "one.svg"), ("banks --stride 144", "two.svg"), ("banks --width 4", "c.png"),
                        ("spacing e4m3 e5m2", "d.svg"), ("errors bf16 e2m1", "e.png")):
        done = CliRunner().invoke(cli.main, ["plot", *words.split(), "--out", str(tmp_path / name)])
        assert done.exit_code == 0, done.output
    a, b, one, two, c = ((tmp_path / name).read_bytes() for name in ("a.svg", "b.svg", "one.svg", "two.svg", "c.png"))
    assert one == two and one.startswith(b"<?xml") and b"4 wavefronts, 0 conflicts" in one
    assert b">31:0.16<" in a and b"swizzle 64B" in b and c.startswith(b"\x89PNG")


def test_refusals(tmp_path):
    for words, sentence in (("swizzle 64B --out x.pdf", "pictures are written as .svg or .png"),
                            ("swizzle 65B --out x.svg", "swizzle '65B' is not one of"),
                            ("banks --stride 8 --out x.svg", "is not a multiple of the 16 bytes")):
        done = CliRunner().invoke(cli.main, ["plot", *words.split()])
        assert done.exit_code == 2 and sentence in done.output
