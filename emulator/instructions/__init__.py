"""The instruction tables of every vendor: by architecture and name, a row.

An Adder is silicon: how many bits of operands feed one fused sum, how many fraction bits it keeps. An Instruction is
vocabulary: a name, a shape, formats, the adder it runs on and the method (a function of `exact`) that composes K.
What can be derived is a property. Every row says how it is known, by the keys of SOURCES.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from types import ModuleType

from ..errors import UnknownInstruction
from . import amd, documented, gaudi, nvidia, x86
from .nvidia import ADDERS, legal_n
from .row import DOCUMENTS, SOURCES, Adder, Instruction, generic, golden_root

__all__ = ["ADDERS", "ARCHS", "DOCUMENTS", "SOURCES", "Adder", "Instruction", "find", "generic", "golden_root",
           "legal_n", "table"]

# A vendor's module has ARCHS (architecture: its name and aliases), NOT_MODELLED (architecture: why), rows(arch), and
# canonical(arch, name), which brings a spelling of an instruction's name to the table's.
_VENDORS = (nvidia, x86, amd, gaudi, documented)
_VENDOR: dict[str, ModuleType] = {arch: vendor for vendor in _VENDORS for arch in vendor.ARCHS}
ARCHS: dict[str, tuple[str, str]] = {arch: vendor.ARCHS[arch] for arch, vendor in _VENDOR.items()}
_ALIASES = {alias: arch for arch, (_, aliases) in ARCHS.items() for alias in aliases.split()}
_NOT_MODELLED = {arch: why for vendor in _VENDORS for arch, why in vendor.NOT_MODELLED.items()}


@cache
def table(arch: str) -> dict[str, Instruction]:
    """The rows of one architecture by name; n is written N (and is 0) where the name takes any legal n.

    Raises UnknownInstruction for an architecture that is not modelled, saying why.
    """
    known = _ALIASES.get(arch.lower(), arch.lower())
    if known not in ARCHS:
        why = _NOT_MODELLED.get(known) or _NOT_MODELLED.get(known.rstrip("af"))
        raise UnknownInstruction(f"architecture {arch!r} is not modelled{': ' + why if why else ''}; "
                                 f"the architectures are {', '.join(ARCHS)} (aliases: {', '.join(_ALIASES)})")
    if known != arch:
        return table(known)
    return {row.name: row for row in _VENDOR[known].rows(known)}


def find(arch: str, name: str) -> Instruction:
    """The row of `name` on `arch`: `mma.m16n8k16.f32.f16.f16.f32`, `wgmma.m64n8k32.f32.e4m3.e4m3`, ...

    Full PTX spellings (`mma.sync.aligned.m16n8k16.row.col...`) and architecture aliases (`h100`) are accepted.
    Raises UnknownInstruction, naming what the architecture takes instead.
    """
    rows = table(arch)
    arch = next(iter(rows.values())).arch
    wanted = _VENDOR[arch].canonical(arch, name)
    row = rows.get(generic(wanted))
    if row is not None and row.n:
        return row
    if row is not None:
        legal = legal_n(row)
        n = int((re.search(r"n(\d+)k", wanted) or [0, 0])[1])
        if n in legal:
            return replace(row, n=n, name=wanted)
        raise UnknownInstruction(f"{name}: {f'n = {n} is not legal' if n else 'say which n'}; {row.name} takes n = "
                                 f"{', '.join(map(str, legal))}")
    elsewhere = [other for other in ARCHS if generic(_VENDOR[other].canonical(other, name)) in table(other)]
    where = f"it exists on {', '.join(elsewhere)}" if elsewhere else "no architecture has it"
    if ".sp" in name or "sparse" in name or "smfmac" in name:
        where = "sparse forms are not modelled: nobody has published which group a compressed k belongs to"
    parts = set(wanted.split("."))
    near = sorted(rows, key=lambda r: -len(parts & set(r.split("."))))[:6]
    raise UnknownInstruction(f"{arch} has no {wanted or repr(name)}; {where}. {arch} takes, among {len(rows)}: "
                             f"{', '.join(near)} (emulator instructions {arch})")
