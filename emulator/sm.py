"""What a streaming multiprocessor has: memory, registers, documented rates; and what moving and multiplying costs.

Sources: [OCC] cuda_occupancy.h of CUDA 13.0 and the CUDA C++ Programming Guide 13.0, table of compute capabilities;
[WP] NVIDIA's white papers and data sheets: V100 (WP-08608), Turing (WP-09183), A100, GA102, Ada, H100, Blackwell (RTX
and B200), whose peak figures, SM counts and clocks give the rates per clock; [HOR] M. Horowitz, ISSCC 2014, doi
10.1109/ISSCC.2014.6757323, figure 1.1.9, energies at 45 nm and 0.9 V; [OCN] O'Connor et al., MICRO 2017, doi
10.1145/3123939.3124545, HBM2.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from .errors import BadOperand
from .formats import Integer
from .instructions import Instruction, table

__all__ = ["ENERGY", "MACHINES", "Machine", "machine"]


@dataclass(frozen=True)
class Machine:
    """One architecture, and a product of it for times. Memory in KB (1024 bytes), clock in GHz, dram in GB/s.

    shared, block: shared memory of an SM, and the most one thread block may opt in to; reserved: KB the system takes
    from each block; blocks, warps: the most an SM holds. rates: dense FLOP per clock per SM, multiply and add counted
    separately, by the bits of an operand (`16` with float32 sums, `16h` with float16 sums, `i8` for integers).
    """

    arch: str
    shared: int
    block: int
    reserved: int
    blocks: int
    warps: int
    product: str
    sms: int
    clock: float
    dram: int
    rates: dict[str, int] = field(hash=False)
    registers: int = 65536          # of 32 bits per SM; at most 255 per thread, in four parts of a quarter each
    per_thread: int = 255

    def rate(self, on: Instruction) -> int | None:
        """FLOP (or integer operations) per clock per SM for an instruction; None where nothing is documented."""
        bits = {"tfloat32": 32}.get(on.a.name, on.a.bits)
        whole = isinstance(on.a, Integer)
        if on.a.name in ("float6_e2m3fn", "float6_e3m2fn") or "f8f6f4" in on.name:
            bits = 8
        key = ("i" if whole else "") + str(bits)
        if on.d.bits == 16:
            return self.rates.get(key + "h", self.rates.get(key))
        return self.rates.get(key)


MACHINES = {row.arch: row for row in (
    #       arch     SM   block res blocks warps product            SMs  GHz    GB/s  rates [WP]
    Machine("sm_70", 96,  96,  0, 32, 64, "V100 SXM2",              80,  1.530, 900,  {"16": 1024}),
    Machine("sm_75", 64,  64,  0, 16, 32, "T4",                     40,  1.590, 320,
            {"16": 1024, "i8": 2048, "i4": 4096}),
    Machine("sm_80", 164, 163, 1, 32, 64, "A100 SXM 40 GB",         108, 1.410, 1555,
            {"16": 2048, "32": 1024, "64": 128, "i8": 4096, "i4": 8192, "i1": 32768}),
    Machine("sm_86", 100, 99,  1, 16, 48, "RTX 3090",               82,  1.695, 936,
            {"16": 512, "16h": 1024, "32": 256, "i8": 2048, "i4": 4096}),
    Machine("sm_89", 100, 99,  1, 24, 48, "RTX 4090",               128, 2.520, 1008,
            {"16": 512, "16h": 1024, "32": 256, "8": 1024, "8h": 2048, "i8": 2048, "i4": 4096}),
    Machine("sm_90", 228, 227, 1, 32, 64, "H100 SXM",               132, 1.830, 3350,
            {"16": 4096, "32": 2048, "8": 8192, "i8": 8192, "64": 256}),
    Machine("sm_100", 228, 227, 1, 32, 64, "B200",                  148, 1.856, 8000,
            {"16": 8192, "32": 4096, "8": 16384, "4": 32768, "i8": 16384}),
    Machine("sm_120", 100, 99, 1, 24, 48, "RTX 5090",               170, 2.407, 1792,
            {"16": 512, "16h": 1024, "32": 256, "8": 1024, "8h": 2048, "4": 4096, "i8": 2048}),
)}

# Picojoules, and where each comes from; those that are assumed say so. 45 nm figures are an upper bound today.
ENERGY: dict[str, tuple[float, str]] = {
    "DRAM byte":     (31.4, "[OCN] 3.92 pJ/bit of HBM2; GDDR costs more"),
    "L2 byte":       (12.5, "[HOR] 100 pJ for 64 bits of a 1 MB cache"),
    "shared byte":   (2.5,  "[HOR] 20 pJ for 64 bits of a 32 KB cache"),
    "register byte": (1.25, "[HOR] 10 pJ for 64 bits of an 8 KB memory, the size of a register bank"),
    "product 64":    (14.8, "assumed: four times [HOR]'s FP32 multiplier"),
    "product 32":    (1.1,  "[HOR] FP16 multiplier, of TF32's significand width"),
    "product 16":    (1.1,  "[HOR] FP16 multiplier"),
    "product 8":     (0.2,  "[HOR] 8-bit integer multiplier"),
    "product 4":     (0.05, "assumed: a quarter of the 8-bit multiplier"),
    "product 1":     (0.01, "assumed"),
    "addition":      (0.9,  "[HOR] FP32 adder, one for each product"),
}


def machine(arch: str) -> Machine:
    """The row of an architecture or an alias of it. Raises UnknownInstruction, or BadOperand where there is none."""
    name = next(iter(table(arch).values())).arch
    if name not in MACHINES:
        raise BadOperand(f"{name}: shared memory and rates are known of {', '.join(MACHINES)}")
    return MACHINES[name]
