"""The public recordings of MATLAB-tensor-core as a golden folder: read its text files, write ours.

Source of the form: north-numerical-computing/MATLAB-tensor-core, model_validation/Validate_TC_models.m and the CUDA
programs beside it (F. A. Khattak and M. Mikaitis, BSD-2-Clause; paper doi 10.1145/3830409).
"""

from __future__ import annotations

import datetime
import re
import shutil
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from .errors import BadGolden
from .golden import GoldenSet, Vectors, file_name, write

__all__ = ["import_matlab"]

_GPUS = {"V100": "sm_70", "A100": "sm_80", "A30": "sm_80", "A2": "sm_86", "A40": "sm_86", "Ada": "sm_89",
         "L40S": "sm_89", "H100": "sm_90", "H200": "sm_90", "B200": "sm_100"}
_TYPES: dict[str, tuple[str, str, Any]] = {             # folder: PTX type, shape, numpy type that holds it
    "fp16": ("f16", "m16n8k16", np.float16), "bf16": ("bf16", "m16n8k16", ml_dtypes.bfloat16),
    "tf32": ("tf32", "m16n8k8", np.float32), "E4M3": ("e4m3", "m16n8k32", ml_dtypes.float8_e4m3fn),
    "E5M2": ("e5m2", "m16n8k32", ml_dtypes.float8_e5m2)}
_RESULTS: dict[str, tuple[str, Any]] = {"fp32": ("f32", np.float32), "fp16": ("f16", np.float16)}
_FILE = re.compile(rf"([abcd])_({'|'.join(_GPUS)})_(\w+)\.txt")


def import_matlab(source: str | Path, out: str | Path) -> list[GoldenSet]:
    """Bring recorded rows of MATLAB-tensor-core in as the golden folder `out`.

    source: a checkout of the repository, its model_validation/, or one GPU's folder there. The files:
    <GPU>/<type>/a_<GPU>_<type>.txt and b_..., k float32 words in hex per line; c_<GPU>_fp32.txt and
    d_<GPU>_<fp32 or fp16>.txt, one float32 in 32 binary digits per line. For float16 results C is rounded to float16
    (nearest even), as the CUDA programs did.
    H100 and H200 FP8 rows with float32 results exist in two recordings: by mma.sync, and later by wgmma with C = 0.
    Only wgmma leaves the low ten bits of every result zero, which tells them apart.
    Raises BadGolden for a file that is not of this form, by name.
    """
    source, out = Path(source), Path(out)
    place = source / "model_validation" if (source / "model_validation").is_dir() else source
    for path in sorted(place.rglob("*.txt")):
        if not _known(path):
            raise BadGolden(f"{path} is not a file of MATLAB-tensor-core's model_validation, which holds "
                            "<type>/a_<GPU>_<type>.txt, b_..., c_<GPU>_fp32.txt and d_<GPU>_<fp32 or fp16>.txt for GPU "
                            f"{', '.join(_GPUS)} and type {', '.join(_TYPES)}. "
                            "Give one GPU's folder to import that one alone")
    results = sorted(place.rglob("d_*.txt"))
    if not results:
        raise BadGolden(f"{source} holds no d_<GPU>_<fp32 or fp16>.txt; give a checkout of MATLAB-tensor-core")
    machine = {"kind": "imported", "source": "MATLAB-tensor-core",
               "url": "https://github.com/north-numerical-computing/MATLAB-tensor-core",
               "licence": "BSD-2-Clause, F. A. Khattak and M. Mikaitis",
               "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
               "tool": "emulator golden import", "command": f"emulator golden import {source} {out}"}
    written = write(out, machine, map(_read, results))
    for licence in (path for root in (place, place.parent) for path in root.glob("LICEN[CS]E*")):
        shutil.copy(licence, out)
    return written


def _known(path: Path) -> bool:
    found, kind = _FILE.fullmatch(path.name), path.parent.name
    last = {"c": ("fp32",), "d": tuple(_RESULTS)}
    return found is not None and kind in _TYPES and found[3] in last.get(found[1], (kind,))


def _read(path: Path) -> tuple[dict[str, str], Vectors]:
    """The set whose results are in d_<GPU>_<result>.txt at `path`: its entry and its vectors."""
    _, gpu, result = path.stem.split("_")
    (ptx, shape, carrier), (out, d_type) = _TYPES[path.parent.name], _RESULTS[result]
    a, b = (_operands(path.with_name(f"{name}_{gpu}_{path.parent.name}.txt"), carrier) for name in "ab")
    d = _exactly(path, _words(path, "[01]{32}", 2)[:, 0], d_type)
    name = f"mma.{'m8n8k4' if gpu == 'V100' else shape}.{out}.{ptx}.{ptx}.{out}"
    if gpu in ("H100", "H200") and ptx in ("e4m3", "e5m2") and out == "f32" and not (d & 0x3FF).any():
        name, c = f"wgmma.m64n8k32.f32.{ptx}.{ptx}", np.zeros_like(d)
    else:
        words = _words(path.with_name(f"c_{gpu}_fp32.txt"), "[01]{32}", 2)[:, 0]
        with np.errstate(over="ignore"):
            c = words.view(np.float32).astype(d_type).view(d.dtype)
    if not len(a) == len(b) == len(c) == len(d):
        raise BadGolden(f"{path.parent}: a, b, c and {path.name} have {len(a)}, {len(b)}, {len(c)} and {len(d)} rows")
    entry = {"instruction": name, "arch": _GPUS[gpu], "device": gpu, "file": f"{gpu}-{file_name(name)}"}
    return entry, Vectors(a, b, c, d)


def _operands(path: Path, carrier: Any) -> np.ndarray:
    words = _words(path, "[0-9a-fA-F]{8}", 16)
    if carrier is np.float32 and (words & 0x1FFF).any():
        raise BadGolden(f"{path} holds numbers that are no tf32: their low 13 bits are not zero")
    return _exactly(path, words, carrier)


def _exactly(path: Path, words: np.ndarray, carrier: Any) -> np.ndarray:
    """float32 words as codes of a type that must hold them exactly."""
    with np.errstate(over="ignore", invalid="ignore"):
        narrow = words.view(np.float32).astype(carrier)
    wrong = narrow.astype(np.float32).view(np.uint32) != words
    if wrong.any():
        raise BadGolden(f"{path}, row {np.argwhere(wrong)[0][0] + 1}: {int(words[wrong][0]):#010x} is no "
                        f"{np.dtype(carrier).name}")
    return narrow.view(f"u{narrow.dtype.itemsize}")


def _words(path: Path, form: str, base: int) -> np.ndarray:
    """The numbers of a text file, one row per line that is not empty: (lines, numbers per line) uint32."""
    try:
        lines = [line.split() for line in path.read_text(encoding="ascii").splitlines() if line.strip()]
    except FileNotFoundError:
        raise BadGolden(f"{path} is missing") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BadGolden(f"{path} cannot be read: {error}") from None
    if not lines:
        raise BadGolden(f"{path} is empty")
    for number, line in enumerate(lines, 1):
        for word in line:
            if not re.fullmatch(form, word):
                raise BadGolden(f"{path}, row {number}: {word!r} is not of the form {form}")
        if len(line) != len(lines[0]):
            raise BadGolden(f"{path}, row {number} has {len(line)} numbers, the first has {len(lines[0])}")
    return np.array([[int(word, base) for word in line] for line in lines], dtype=np.uint32)
