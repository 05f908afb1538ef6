"""The rows recorded on V100, A100, RTX 1000 Ada, H100 and B200 (MATLAB-tensor-core), where they lie beside the checkout."""

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


def test_claims_of_silicon_are_the_recordings():
    """A row says it was recorded exactly where the folder has it; the A2 of sm_86 is in the publication alone."""
    recorded = {(each.arch, generic(each.instruction)) for each in SETS}
    claimed = {(arch, name) for arch in ARCHS for name, row in table(arch).items() if row.recorded and arch != "sm_86"}
    assert claimed == recorded
