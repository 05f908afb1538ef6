"""Golden vectors: read, check, replay and write what real machines answered. The file format: golden/README.md.

A folder holds one manifest and .npz files of unsigned codes. The manifest is machine.json, or the index.json of the
recorded-gpu folder. A GoldenSet is one .npz file: one instruction of one machine, as dot products or whole tiles.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from . import arrays, cases, show
from .compare import Comparison
from .define import Defined, define, row_of
from .errors import BadGolden, BadOperand, BadUnit, UnknownInstruction
from .formats import Float, Integer
from .instructions import golden_root
from .unit import Unit, instruction

__all__ = ["GoldenSet", "Replay", "Vectors", "check", "file_name", "folders", "generate", "golden_root", "read",
           "recorded_root", "write"]

# What machine.json must say, by kind; each file's entry may say it instead.
REQUIRED = {
    "captured": ("arch", "device", "driver", "toolkit", "tool", "date", "command", "licence"),
    "published": ("arch", "source", "citation", "date", "licence"),
    "imported": ("arch", "device", "source", "date", "licence"),
    "generated": ("arch", "source", "date"),                            # by an emulated unit: evidence of nothing
}


@dataclass(frozen=True, eq=False)
class Vectors:
    """Operands and results as unsigned codes.

    Rows: a, b (N, k') with k' <= k, c, d (N,), scale_a, scale_b (N, k / block). Tiles: a (N, m, k), b (N, k, n), c, d
    (N, m, n), scale_a (N, m, k / block), scale_b (N, k / block, n). why (N,): each one's index into `classes`.
    """

    a: np.ndarray
    b: np.ndarray
    c: np.ndarray
    d: np.ndarray
    scale_a: np.ndarray | None = None
    scale_b: np.ndarray | None = None
    why: np.ndarray | None = None
    classes: tuple[str, ...] = ()

    def dots(self, places: np.ndarray) -> tuple[np.ndarray | None, ...]:
        """a, b, c, scale_a, scale_b of the elements of D at flat positions `places` (P,), each as one dot product."""
        tile, *at = np.unravel_index(places, self.d.shape)
        left = (tile, *at[:1])                                          # row i of A
        right = (tile, slice(None), at[1]) if at else (tile,)           # column j of B
        return (self.a[left], self.b[right], self.c[(tile, *at)], None if self.scale_a is None else self.scale_a[left],
                None if self.scale_b is None else self.scale_b[right])


@dataclass(frozen=True)
class GoldenSet:
    """One file of a golden folder. rows: how many elements of D it holds; source: where they come from, in short."""

    path: Path
    kind: str
    arch: str
    device: str
    instruction: str
    rows: int
    sha256: str
    source: str
    row: Mapping[str, Any] | None = None        # of a unit that its user defined: the arguments of `define`

    def __str__(self) -> str:
        return f"{self.path.parent.name}/{self.path.name}"

    @cached_property
    def unit(self) -> Unit:
        """The instruction that is to answer. Raises BadGolden if the table has none of that name."""
        try:
            return _unit(self.arch, self.instruction, self.row)
        except (UnknownInstruction, BadUnit) as error:
            raise BadGolden(f"{self}: {error}") from None

    def load(self) -> Vectors:
        """The vectors, checked: hash, arrays, types, shapes, codes. Raises BadGolden."""
        found = open_file(str(self), self.path, self.sha256)
        vectors = _vectors(str(self), self.unit, found)
        if vectors.d.size != self.rows:
            raise BadGolden(f"{self}: d has {vectors.d.size} elements, the manifest says {self.rows} rows")
        return vectors

    def replay(self, engine: str | None = None, limit: int | None = None) -> Replay:
        """Run the vectors through the emulated instruction on one engine.

        limit: a sample of that many elements of D, the same every time; without it all of them.
        """
        vectors, unit = self.load(), self.unit
        if limit and limit < self.rows:
            places = np.sort(np.random.default_rng(0).choice(self.rows, limit, replace=False))
            got = vectors.d.copy()
            a, b, c, scale_a, scale_b = vectors.dots(places)
            got.flat[places] = unit.dot_codes(a, b, c, scale_a, scale_b, engine)
        else:
            run = unit.dot_codes if vectors.d.ndim == 1 else unit.codes
            got = run(vectors.a, vectors.b, vectors.c, vectors.scale_a, vectors.scale_b, engine)
        return Replay(self, engine, min(limit or self.rows, self.rows), Comparison(got, vectors.d, unit.d), vectors)


@dataclass(frozen=True, eq=False)
class Replay:
    """A golden set against an engine: `compared` elements of D; got is what the emulator made of them."""

    set: GoldenSet
    engine: str | None
    compared: int
    comparison: Comparison
    vectors: Vectors

    @property
    def equal(self) -> bool:
        return self.comparison.equal

    @property
    def mismatches(self) -> int:
        return self.comparison.mismatches

    @property
    def story(self) -> str:
        """The differences, the class of the first one, and the command that explains it; empty where all is equal."""
        first = self.comparison.first
        if first is None:
            return ""
        lines = [str(self.comparison)]
        if self.vectors.why is not None:
            lines.append(f"  the first is of class {self.vectors.classes[self.vectors.why[first[0]]]!r}")
        place = int(np.ravel_multi_index(first, self.vectors.d.shape))
        return "\n".join([*lines, f"  {command(self.set.unit, self.vectors, place)}"])


def command(unit: Unit, vectors: Vectors, place: int) -> str:
    """The command that explains the element of D at a flat position."""
    words = []
    for name, fmt, codes in zip(("a", "b", "c", "scale-a", "scale-b"),
                                (unit.a, unit.b, unit.c, unit.scale, unit.scale), vectors.dots(np.array([place]))):
        if codes is not None and fmt is not None:
            words.append(f"--{name} {','.join(show.code(fmt, x) for x in codes[0].ravel())}")
    return f"emulator explain {unit.arch} {unit.name} {' '.join(words)}"


# --- folders ----------------------------------------------------------------------------------------------------------

def recorded_root() -> Path | None:
    """The recorded-gpu folder: RECORDED_GPU, or ../shared/recorded-gpu beside the checkout; None without one.

    Raises BadGolden if RECORDED_GPU names a folder without index.json.
    """
    named = os.environ.get("RECORDED_GPU")
    place = Path(named) if named else Path(__file__).resolve().parent.parent.parent / "shared" / "recorded-gpu"
    there = (place / "index.json").is_file()
    if named and not there:
        raise BadGolden(f"RECORDED_GPU is {named}, where no index.json lies")
    return place if there else None


def folders(place: Path | None = None) -> list[Path]:
    """The golden folders at `place`, itself or directly below it; without `place`, golden/ and the recorded rows.

    Raises BadGolden if there are none at `place`.
    """
    if place is None:
        roots = [root for root in (golden_root(), recorded_root()) if root]
        return [folder for root in roots for folder in _manifested(root)]
    found = _manifested(place)
    if not found:
        raise BadGolden(f"{place} {'has no machine.json' if place.is_dir() else 'is no folder'}; a golden folder holds "
                        "machine.json and .npz files (golden/README.md)")
    return found


def _manifested(place: Path) -> list[Path]:
    return [folder for folder in (place, *sorted(place.glob("*/")))
            if (folder / "machine.json").is_file() or (folder / "index.json").is_file()]


def read(folder: str | Path) -> list[GoldenSet]:
    """The sets of one golden folder, by its manifest; the files are there, but not opened (GoldenSet.load does).

    Its conversions and functions are not among them: emulator.operations.read has those. Raises BadGolden for a
    manifest that is damaged or does not name exactly the .npz files that lie there.
    """
    folder = Path(folder)
    manifest, said = manifest_of(folder)
    try:
        sets = list(_machine(folder, said) if manifest.name == "machine.json" else _recorded(folder, said))
        named = {golden.path.name for golden in sets}
        named |= set(said["files"]) if manifest.name == "machine.json" else set()
    except (TypeError, AttributeError):
        raise BadGolden(f"{manifest} is not the manifest of a golden folder: a value is of the wrong kind") from None
    except KeyError as missing:
        raise BadGolden(f"{manifest} does not say {missing}") from None
    here = {path.name for path in folder.glob("*.npz")}
    if named - here:
        raise BadGolden(f"{manifest} names {', '.join(sorted(named - here))}, which is missing")
    if here - named:
        raise BadGolden(f"{folder} holds {', '.join(sorted(here - named))}, which {manifest.name} does not name")
    return sets


def manifest_of(folder: Path) -> tuple[Path, Any]:
    """The manifest of a golden folder, and what it says. Raises BadGolden."""
    manifest = folder / ("machine.json" if (folder / "machine.json").is_file() else "index.json")
    try:
        said = json.loads(manifest.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadGolden(f"{folder} has no machine.json; a golden folder holds machine.json and .npz files") from None
    except (OSError, ValueError) as error:
        raise BadGolden(f"{manifest} cannot be read: {error}") from None
    return manifest, said


def check(folder: str | Path) -> list[GoldenSet]:
    """The sets of one golden folder, every file opened. Raises BadGolden for the first that is not what it says."""
    sets = read(folder)
    for golden in sets:
        golden.load()
    return sets


def _machine(folder: Path, machine: Mapping[str, Any]) -> Iterator[GoldenSet]:
    """The sets of a machine.json; what a file's entry says goes before what the machine says."""
    kind = machine["kind"]
    if kind not in REQUIRED:
        raise BadGolden(f"{folder}/machine.json has kind {kind!r}; the kinds are {', '.join(REQUIRED)}")
    for file, entry in machine["files"].items():
        said = {**machine, **entry}
        for key in REQUIRED[kind]:
            if not isinstance(said[key], str) or not said[key]:
                raise BadGolden(f"{folder}/machine.json: {key!r} of {file} is {said[key]!r}, not a text")
        if "operation" in entry:
            continue
        source = f"captured: {folder.name}" if kind == "captured" else f"{kind}: {said['source']}"
        yield _set(folder, file, kind, said.get("device") or said["arch"], said, source)


def _recorded(folder: Path, index: Iterable[Mapping[str, Any]]) -> Iterator[GoldenSet]:
    """The sets of the recorded-gpu folder's index.json."""
    for entry in index:
        yield _set(folder, entry["file"], "recorded", entry["gpu"], entry, f"recorded: {entry['gpu']} [KM]")


def _unit(arch: str, name: str, row: Mapping[str, Any] | None) -> Unit:
    return instruction(arch, name) if row is None else define(**{**row, "name": name})


def _set(folder: Path, file: str, kind: str, device: str, said: Mapping[str, Any], source: str) -> GoldenSet:
    if Path(file).name != file or not file.endswith(".npz"):
        raise BadGolden(f"{folder}: {file!r} is not the name of an .npz file in the folder")
    if not re.fullmatch("[0-9a-f]{64}", said["sha256"]) or type(said["rows"]) is not int:
        raise BadGolden(f"{folder}: {file} has rows {said['rows']!r} and sha256 {said['sha256']!r}; those are a count "
                        "and 64 hex digits")
    return GoldenSet(folder / file, kind, str(said["arch"]), device, str(said["instruction"]), said["rows"],
                     said["sha256"], source, said.get("unit"))


# --- files ------------------------------------------------------------------------------------------------------------

def open_file(name: str, path: Path, sha256: str) -> dict[str, np.ndarray]:
    """The arrays of a file, if it is the one that the manifest names. Raises BadGolden."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BadGolden(f"{name} cannot be read: {error}") from None
    found = hashlib.sha256(data).hexdigest()
    if found != sha256:
        raise BadGolden(f"{name}: its sha256 is {found}, the manifest says {sha256}; the file was changed or "
                        "damaged. Fetch it again, or capture it again")
    return _unpack(name, data)


def _unpack(name: str, data: bytes) -> dict[str, np.ndarray]:
    """The arrays of an .npz file. Pickles are refused."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        raise BadGolden(f"{name} is not an .npz file, or it is truncated")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            return {key: file[key] for key in file.files}
    except (ValueError, OSError, EOFError, KeyError, NotImplementedError, zipfile.BadZipFile, zlib.error) as error:
        raise BadGolden(f"{name} cannot be read: {error}") from None


def _vectors(name: str, unit: Unit, found: Mapping[str, np.ndarray]) -> Vectors:
    """The arrays of a file as Vectors of `unit`, every type, shape and code checked."""
    wanted = {"a": unit.a, "b": unit.b, "c": unit.c, "d": unit.d}
    if unit.scale:
        wanted |= {"scale_a": unit.scale, "scale_b": unit.scale}
    spare = set(found) - set(wanted) - {"why", "classes", "instruction"}
    if set(wanted) - set(found) or spare:
        raise BadGolden(f"{name} holds {', '.join(sorted(found)) or 'nothing'}; {unit} takes {', '.join(wanted)} "
                        "(and why, classes, instruction)")
    if "instruction" in found and found["instruction"].tolist() != unit.name:
        raise BadGolden(f"{name} holds vectors of {found['instruction'].tolist()!r}, the manifest says {unit.name}")
    d, k, blocks = found["d"], found["a"].shape[-1:], unit.k // unit.block if unit.block else 0
    many, m, n = d.shape[:1], unit.m, unit.n
    if d.ndim == 1 and (0,) < k <= (unit.k,):
        shapes = {"a": many + k, "b": many + k, "c": many, "d": many, "scale_a": (*many, blocks)}
        shapes["scale_b"] = shapes["scale_a"]
    else:
        shapes = {"a": (*many, m, unit.k), "b": (*many, unit.k, n), "c": (*many, m, n), "d": (*many, m, n),
                  "scale_a": (*many, m, blocks), "scale_b": (*many, blocks, n)}
    if not many or any(found[key].shape != shapes[key] for key in wanted):
        raise BadGolden(f"{name} holds {', '.join(f'{key} {found[key].shape}' for key in wanted)}; {unit} takes rows: "
                        f"a, b (N, k' <= {unit.k}), c, d (N,); or tiles: a (N, {m}, {unit.k}), b (N, {unit.k}, {n}), "
                        f"c, d (N, {m}, {n})")
    codes = {key: _codes(name, key, found[key], fmt) for key, fmt in wanted.items()}
    return Vectors(codes["a"], codes["b"], codes["c"], codes["d"], codes.get("scale_a"), codes.get("scale_b"),
                   *_reasons(name, many, found))


def _codes(name: str, key: str, array: np.ndarray, fmt: Float | Integer) -> np.ndarray:
    if array.dtype.newbyteorder("=") != fmt.code_dtype:
        raise BadGolden(f"{name}: {key} is {array.dtype.name}; codes of {fmt} are stored as {fmt.code_dtype.name}")
    try:
        return arrays.check_codes(array, fmt, key)
    except BadOperand as error:
        raise BadGolden(f"{name}: {error}") from None


def _reasons(name: str, many: tuple[int, ...],
             found: Mapping[str, np.ndarray]) -> tuple[np.ndarray | None, tuple[str, ...]]:
    """why and classes: an index per row, and the names it points to."""
    if ("why" in found) != ("classes" in found):
        raise BadGolden(f"{name} holds only one of why and classes; each row's why is an index into classes")
    if "why" not in found:
        return None, ()
    why, classes = found["why"], found["classes"]
    if classes.dtype.kind != "U" or classes.ndim != 1 or why.dtype.kind != "u" or why.shape != many or (
            why.size and int(why.max()) >= classes.size):
        raise BadGolden(f"{name}: why is {why.dtype.name} {why.shape}, classes {classes.dtype.name} {classes.shape}; "
                        f"for each of the {many[0]} rows why is an unsigned index into classes, which are names")
    return why, tuple(classes.tolist())


def file_name(name: str) -> str:
    """The file that holds an instruction: its name with `::` written `_`, for file systems that have no colon."""
    return name.replace("::", "_") + ".npz"


def write(folder: str | Path, machine: Mapping[str, Any],
          sets: Iterable[tuple[Mapping[str, Any], Vectors]]) -> list[GoldenSet]:
    """Write a golden folder and read it back.

    machine: what machine.json says, without `files`. sets: for each file what its entry says (instruction, and arch,
    device, citation ... where they are not the machine's; `file` if the name is not the instruction's; `unit`, define's
    arguments, if a user defined it) and its vectors.
    Raises BadGolden for vectors that are not the instruction's, and for a folder that already holds golden files.
    """
    folder = Path(folder)
    if folder.exists() and any(folder.glob("*.npz")):
        raise BadGolden(f"{folder} already holds .npz files; write to a new folder")
    contents, files = {}, {}
    for entry, vectors in sets:
        said = {**machine, **entry}
        unit = _unit(said["arch"], said["instruction"], said.get("unit"))
        file = said.get("file") or file_name(unit.name)
        if file in files:
            raise BadGolden(f"{folder}: two sets are called {file}; name one of them with `file`")
        found = {key: getattr(vectors, key) for key in ("a", "b", "c", "d", "scale_a", "scale_b", "why")
                 if getattr(vectors, key) is not None}
        if vectors.why is not None:
            found["classes"] = np.array(vectors.classes, dtype=np.str_)
        found["instruction"] = np.array(unit.name)
        _vectors(file, unit, found)
        packed = io.BytesIO()
        np.savez_compressed(packed, **found)
        contents[file] = packed.getvalue()
        rest = {key: value for key, value in entry.items() if key not in ("file", "instruction")}
        files[file] = {"instruction": unit.name, **rest, "rows": int(vectors.d.size),
                       "sha256": hashlib.sha256(contents[file]).hexdigest()}
    manifest = json.dumps({**machine, "files": files}, indent=1) + "\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, data in {**contents, "machine.json": manifest.encode()}.items():
            (folder / file).write_bytes(data)
    except OSError as error:
        raise BadGolden(f"{folder} cannot be written: {error}") from None
    return read(folder)


def generate(folder: str | Path, units: Iterable[Unit], tiles: int = 100, seed: int = 0) -> list[GoldenSet]:
    """Write a golden folder of kind `generated`: for each unit `tiles` tiles of emulator.cases, and what it answers.

    For a model or a design under test; what the emulator answered is no evidence of silicon. The folder holds the row
    of a unit that its user defined, so it can be replayed anywhere. Raises BadGolden as `write` does, and for a unit
    that is a Python function, which no file can hold.
    """
    sets = []
    for unit in units:
        row = row_of(unit) if isinstance(unit, Defined) else None
        if row and callable(row.get("method")):
            raise BadGolden(f"{unit} is a Python function, which a golden folder cannot hold")
        x = cases.generate(unit, tiles, seed)
        d = unit.codes(x.a, x.b, x.c, x.scale_a, x.scale_b)
        sets.append(({"arch": unit.arch, "instruction": unit.name, **({"unit": row} if row else {})},
                     Vectors(x.a, x.b, x.c, d, x.scale_a, x.scale_b, x.why, x.classes)))
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    return write(folder, {"kind": "generated", "source": f"the emulator, seed {seed}", "date": now}, sets)
