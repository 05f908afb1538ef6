"""Rules of the house: imports run one way, the import is light, the README runs."""

import ast
import doctest
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

import emulator
from emulator import cli, golden

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
# reading order: a room imports only from rooms above it
ROOMS = """errors threads rounding formats exact instructions record engine_c engine_numba noise engines arrays cases show
           convert arithmetic limits blocks integers quantize compare explain unit define differ probe matmul judge
           sm fragments shared staging trace kernels plots golden operations x86 live matlab nn cli __main__""".split()


def imports(path: Path) -> set[str]:
    """The rooms a module imports, at its top or inside functions; not what only a type checker reads."""
    found = set()
    tree = ast.parse(path.read_text())
    typing = {child for node in ast.walk(tree) if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
              for child in ast.walk(node)}
    for node in set(ast.walk(tree)) - typing:
        own = path.parent.name != "emulator" and isinstance(node, ast.ImportFrom) and node.level == 1   # within a room
        if isinstance(node, ast.ImportFrom) and not own and (node.level or (node.module or "").startswith("emulator")):
            module = (node.module or "").removeprefix("emulator").strip(".")
            found |= {module.split(".")[0]} if module else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("emulator.")}
    return found - {"_c", "__version__"}


def test_imports_run_one_way():
    house = ROOT / "emulator"
    modules = {path: path.stem for path in house.glob("*.py") if path.stem != "__init__"}
    modules |= {path: path.parent.name for path in house.glob("*/*.py")}            # a room of several modules
    assert set(modules.values()) == set(ROOMS), "a room is missing from this test's order, or from the house"
    for path, room in modules.items():
        upward = {other for other in imports(path) if ROOMS.index(other) >= ROOMS.index(room)}
        assert not upward, f"{path.relative_to(house)} imports {upward}, which stand below it"


def test_the_import_is_light(tmp_path):
    """No numba, no cffi, no click: and in well under the 0.3 s it may take beside numpy's own, its bytecode once made."""
    code = ("import numpy, ml_dtypes, sys, time; start = time.process_time(); import emulator;"
            "print(time.process_time() - start, *({'numba', 'cffi', 'click', 'torch', '_cffi_backend'} & set(sys.modules)))")
    keep = {**os.environ, "PYTHONDONTWRITEBYTECODE": "", "PYTHONPYCACHEPREFIX": str(tmp_path)}
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, env=keep).stdout.split()
            for _ in range(4)]                              # the first compiles every module, numpy's as well
    assert max(len(run) for run in runs) == 1, runs
    assert min(float(run[0]) for run in runs) < 0.3


def test_public_names_exist():
    assert all(hasattr(emulator, name) for name in emulator.__all__)


def test_readme_python():
    failed, tried = doctest.testfile(str(ROOT / "README.md"), module_relative=False)
    assert tried > 5 and not failed


@pytest.mark.parametrize("command, want", re.findall(r"^\$ emulator (.*)\n((?:(?!\$|```).*\n)*)", README, re.M))
def test_readme_console(command, want):
    got = CliRunner().invoke(cli.main, shlex.split(command), env={**os.environ, "COLUMNS": "120"})
    assert got.exit_code == 0 and got.output.rstrip() == want.rstrip()


def test_readme_counts():
    sets = golden.read(ROOT / "golden" / "published")
    assert f"published: {len(sets)} sets, {sum(each.rows for each in sets)} rows" in README
    assert f"{sum(len(emulator.table(arch)) for arch in emulator.ARCHS)} rows on sm_70" in README


def test_make_targets_of_the_readme():
    makefile = (ROOT / "Makefile").read_text()
    targets = re.findall(r"^    make (\w+)", README, re.M)
    assert {"verify", "test"} <= set(targets)
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in targets)
