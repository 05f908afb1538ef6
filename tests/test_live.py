"""Intel's instructions executed on this CPU, where it has them, beside the emulated ones."""

from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner
from directed import directed

from emulator import cli, instruction, live, x86
from emulator.instructions import find, table

pytestmark = [pytest.mark.sanitize, pytest.mark.skipif(bool(live.lacking()), reason=live.lacking() or "-")]
HERE = live.available()


@pytest.mark.parametrize("name", HERE)
def test_executed_and_emulated(name):
    check = live.check(name, 150_000, seed=2, batch=1 << 13)
    assert not check.mismatches, check.story
    assert check.outputs >= 150_000 and check.name == name and name in live.FAMILIES[check.family]


@pytest.mark.parametrize("name", [name for name in HERE if name in table("x86_64")])
def test_the_directed_vectors_are_what_the_cpu_answers(name):
    """Hand-derived results, executed."""
    row = find("x86_64", name)
    vectors = directed(row)
    a, b = (np.array([v[i] for v in vectors], fmt.code_dtype) for i, fmt in ((1, row.a), (2, row.b)))
    c, want = (np.array(x, row.d.code_dtype) for x in zip(*((v.c, v.want) for v in vectors)))
    ins = instruction("x86_64", name)
    if row.m == 1:
        got = live.execute_dots(ins, a, b, c)
    else:
        ins = replace(ins, m=1, n=1)
        got = live.execute_dots(ins, a[:, None], b[:, :, None], c[:, None, None])[:, 0, 0]
    assert [v.why for v, x, y in zip(vectors, got, want) if x != y] == []


@pytest.mark.skipif("vdpbf16ps" not in HERE, reason="this CPU has no AVX512-BF16")
def test_a_wrong_emulation_is_told(monkeypatch):
    wrong = replace(instruction("x86_64", "vdpbf16ps"), method="two_chains")
    monkeypatch.setattr(live, "instruction", lambda arch, name: wrong)
    check = live.check("vdpbf16ps", 10_000, batch=1000)
    assert check.mismatches > 100
    assert "emulator explain x86_64 vdpbf16ps --a 0x" in check.story and "executed 0x" in check.story


@pytest.mark.skipif("vaddph" not in HERE, reason="this CPU has no AVX512-FP16")
def test_a_wrong_operation_is_told(monkeypatch):
    wrong = x86.INSTRUCTIONS["vaddph"]._replace(function=x86.vsubph)
    monkeypatch.setitem(x86.INSTRUCTIONS, "vaddph", wrong)
    check = live.check("vaddph", 1000, batch=1024)
    assert check.mismatches > 100 and "class 'random': of 0x" in check.story


def test_the_command():
    done = CliRunner().invoke(cli.main, ["verify", "--live", "--outputs", "1000"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert len(lines) == len(HERE) + 2 and all(line.endswith(" equal") for line in lines[:-2])
    assert f"live: {len(HERE)} instructions" in lines[-1]
