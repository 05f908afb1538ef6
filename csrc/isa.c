#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "isa.h"

static const char *const NAMES[] = {
    [EMU_ISA_PORTABLE] = "portable", [EMU_ISA_AVX2] = "avx2", [EMU_ISA_AVX512] = "avx512",
    [EMU_ISA_AVX512FP16] = "avx512fp16",
};
enum { COUNT = sizeof NAMES / sizeof *NAMES, UNREAD = -2, UNKNOWN = -1 };

static int named(const char *name)
{
    for (int isa = 0; isa < COUNT; isa++)
        if (!strcmp(name, NAMES[isa]))
            return isa;
    return UNKNOWN;
}

/* Each part needs the one before it, and the flags that setup.py compiles it with. */
static int best(void)
{
    int isa = EMU_ISA_PORTABLE;
#ifdef EMU_AVX2
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma") || !__builtin_cpu_supports("f16c"))
        return isa;
    isa = EMU_ISA_AVX2;
#ifdef EMU_AVX512
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512cd")
        || !__builtin_cpu_supports("avx512dq") || !__builtin_cpu_supports("avx512vl"))
        return isa;
    isa = EMU_ISA_AVX512;
#ifdef EMU_AVX512FP16
    if (__builtin_cpu_supports("avx512fp16") && __builtin_cpu_supports("avx512vnni"))
        isa = EMU_ISA_AVX512FP16;
#endif
#endif
#endif
    return isa;
}

static atomic_int cap = UNREAD;

int emu_isa_now(void)
{
    int limit = atomic_load_explicit(&cap, memory_order_relaxed);
    if (limit == UNREAD) {
        const char *name = getenv("EMULATOR_ISA");
        limit = name && *name ? named(name) : COUNT - 1;
        atomic_store_explicit(&cap, limit, memory_order_relaxed);
    }
    if (limit == UNKNOWN)
        return UNKNOWN;
    int isa = best();
    return isa < limit ? isa : limit;
}

const char *emu_isa(void)
{
    int isa = emu_isa_now();
    return isa < 0 ? "" : NAMES[isa];
}

int emu_limit_isa(const char *name)
{
    int limit = named(name);
    if (limit == UNKNOWN)
        return EMU_BAD_ISA;
    atomic_store_explicit(&cap, limit, memory_order_relaxed);
    return EMU_DONE;
}
