"""The rows recorded on V100, A100, RTX 1000 Ada, H100 and B200 (MATLAB-tensor-core), where they lie beside the checkout."""

import numpy as np
import pytest

from emulator import ARCHS, engines, golden, table
from emulator.instructions import generic

ROOT = golden.recorded_root()
pytestmark = pytest.mark.skipif(ROOT is None, reason="the recorded GPU rows are not here (../shared/recorded-gpu or RECORDED_GPU)")
SETS = golden.read(ROOT) if ROOT else []


@pytest.mark.parametrize("each", SETS, ids=str)
def test_every_recorded_bit(each):
    replay = each.replay(engines.default())
    assert replay.compared == each.rows == 4000 and replay.equal, replay.story


@pytest.mark.parametrize("isa", ["portable", "avx2", "avx512", "avx512fp16"], indirect=True)
@pytest.mark.parametrize("each", SETS, ids=str)
def test_every_recorded_bit_on_every_path(each, isa):
    """As rows, and as the diagonals of matrix products of 80 of them."""
    replay = each.replay("c")
    assert replay.equal, replay.story
    vectors, unit = each.load(), each.unit
    a, b, c = (x.reshape(50, 80, -1) for x in (vectors.a, vectors.b, vectors.c))
    d = np.empty((50, 80, 80), unit.d.code_dtype)
    unit.fill((a, b.swapaxes(1, 2), np.broadcast_to(c, d.shape), None, None), d, "c")
    assert np.array_equal(np.diagonal(d, 0, 1, 2).ravel(), vectors.d)


def test_claims_of_silicon_are_the_recordings():
    """A row says it was recorded exactly where the folder has it; the A2 of sm_86 is in the publication alone."""
    recorded = {(each.arch, generic(each.instruction)) for each in SETS}
    claimed = {(arch, name) for arch in ARCHS for name, row in table(arch).items() if row.recorded and arch != "sm_86"}
    assert claimed == recorded
