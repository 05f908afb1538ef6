"""What a launch of a kernel moved and issued, what its thread blocks occupy, and what that would cost.

Counts are exact; times and energies are the counts times the constants of sm.MACHINES and sm.ENERGY, no more.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from . import sm
from .instructions import Instruction
from .shared import Access

__all__ = ["Occupancy", "Trace"]


@dataclass(frozen=True)
class Occupancy:
    """What a thread block takes, and how many of them an SM holds. registers: per thread, or what it would need."""

    shared: int
    registers: int
    threads: int
    columns: int                # of tensor memory
    blocks: int
    limit: str
    machine: sm.Machine

    def __str__(self) -> str:
        most = self.machine.per_thread
        spilled = f" (more than {most}: it spills)" if self.registers > most else ""
        tmem = f", {self.columns} columns of tensor memory" if self.columns else ""
        return (f"{self.shared:,} bytes of shared memory, about {self.registers} registers a thread{spilled}, "
                f"{self.threads} threads{tmem}: {self.blocks} thread block{'s' * (self.blocks != 1)} per SM, limited "
                f"by {self.limit}")


@dataclass
class Trace:
    """What a launch moved and issued, on all its thread blocks together.

    bytes: by way, `A -> B`; shared: bank accounting by kind of access; instructions: warp-level counts (wgmma: per
    warpgroup, tcgen05: per thread block); blocks: thread blocks; flops: of whole instructions, edges included.
    """

    on: Instruction
    tile: tuple[int, int, int]
    occupancy: Occupancy
    blocks: int = 0
    flops: int = 0
    compulsory: int = 0                 # bytes of A, B, scales, C and D, each once
    bytes: dict[str, int] = field(default_factory=dict)
    shared: dict[str, Access] = field(default_factory=dict)
    instructions: dict[str, int] = field(default_factory=dict)

    def move(self, way: str, count: int) -> None:
        self.bytes[way] = self.bytes.get(way, 0) + count

    def issue(self, name: str, count: int) -> None:
        self.instructions[name] = self.instructions.get(name, 0) + count

    @property
    def conflicts(self) -> int:
        """Wavefronts of shared memory beyond one per phase."""
        return sum(access.conflicts for access in self.shared.values())

    def times(self) -> dict[str, float]:
        """Seconds that each resource alone would take on the whole product: a roofline, not a prediction.

        math: documented rate of the instruction, all SMs; dram: each operand once at full bandwidth; shared: one
        wavefront of 128 bytes per clock and SM. Each at the boost clock, with the last wave of thread blocks full.
        """
        machine = sm.machine(self.on.arch)
        ticks = machine.sms * machine.clock * 1e9
        rate = machine.rate(self.on)
        found = {"dram": self.compulsory / (machine.dram * 1e9),
                 "shared": sum(access.wavefronts for access in self.shared.values()) / ticks}
        return {"math": self.flops / (rate * ticks), **found} if rate else found

    def energy(self) -> dict[str, float]:
        """Joules by the constants of sm.ENERGY, which say where they come from; an estimate of the data path alone."""
        def of(name: str, count: float) -> float:
            return count * sm.ENERGY[name][0] * 1e-12

        bits = 16 if self.on.a.name == "tfloat32" else self.on.a.bits
        width = min((w for w in (1, 4, 8, 16, 32, 64) if w >= bits), default=64)
        moved = sum(access.bytes for access in self.shared.values())
        registers = sum(count for way, count in self.bytes.items() if "register" in way)
        return {"dram": of("DRAM byte", self.compulsory), "L2": of("L2 byte", self.bytes.get("global -> shared", 0)),
                "shared": of("shared byte", moved), "registers": of("register byte", registers),
                "products": of(f"product {width}", self.flops / 2),
                "sums": of("addition", self.flops / 2)}

    def __str__(self) -> str:
        machine, (m, n, k) = sm.machine(self.on.arch), self.tile
        times, energy = self.times(), self.energy()
        bound = max(times, key=lambda name: times[name])
        lines = [f"{self.on}: {self.blocks:,} thread block{'s' * (self.blocks != 1)} of {m} x {n} x {k}"]
        wide = max(map(len, (*self.bytes, *self.instructions, *self.shared)), default=0)
        lines += [f"  {way:{wide}} {count:>15,} bytes" for way, count in self.bytes.items()]
        lines += [f"  {name:{wide}} {count:>15,} issued" for name, count in self.instructions.items()]
        lines += [f"  {name:{wide}} {access.wavefronts:>15,} wavefronts, {access.conflicts:,} of them conflicts"
                  for name, access in self.shared.items()]
        lines.append(f"  {self.occupancy}")
        lines.append(f"  roofline on {machine.product}: " + ", ".join(f"{name} {t * 1e6:,.2f} us" for name, t in
                                                                       times.items()) + f"; {bound} bound")
        lines.append("  energy, estimated: " + ", ".join(f"{name} {e * 1e3:,.3f} mJ" for name, e in energy.items())
                     + f"; {sum(energy.values()) * 1e3:,.3f} mJ in all (sm.ENERGY says from what)")
        return "\n".join(lines)
