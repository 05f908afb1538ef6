"""golden/published is what tools/published.py states, and every engine answers it."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from emulator import engine_c, golden

ROOT = Path(__file__).resolve().parent.parent
SETS = golden.read(ROOT / "golden" / "published")


@pytest.fixture(scope="module")
def stated(tmp_path_factory):
    spec = importlib.util.spec_from_file_location("published", ROOT / "tools" / "published.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    folder = tmp_path_factory.mktemp("published")
    tool.main(folder)
    return folder


def test_the_folder_is_the_table(stated):
    again = {found.path.name: found for found in golden.check(stated)}
    assert sorted(again) == sorted(found.path.name for found in SETS)
    for found in SETS:
        here, there = found.load(), again[found.path.name].load()
        for key in ("a", "b", "c", "d", "why"):
            assert np.array_equal(getattr(here, key), getattr(there, key)), (found, key)
        assert here.classes == there.classes and (found.source, found.arch) == (
            again[found.path.name].source, again[found.path.name].arch)


def test_one_input_many_answers():
    """The spread of MMA-Sim's table 8, read back from the files."""
    answers = {}
    for found in SETS:
        vectors = found.load()
        for d, why in zip(vectors.d, vectors.why):
            if "MMA-Sim" in vectors.classes[why]:
                answers.setdefault(found.arch, set()).add(float(d.view(f"f{d.itemsize}")))
    assert answers == {"sm_70": {0}, "sm_75": {-0.5}, "sm_80": {-0.5, -0.875}, "sm_89": {-0.5, 0},
                       "sm_90": {-0.75, -0.875, 0}, "sm_100": {-0.75}, "sm_120": {-0.75}}


@pytest.mark.parametrize("found", SETS, ids=str)
@pytest.mark.parametrize("engine", ["exact", "numba", *(["c"] if engine_c.available() else [])])
def test_replay(found, engine):
    replay = found.replay(engine)
    assert replay.equal, replay.story
