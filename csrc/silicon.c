/* The door to this CPU's own instructions: which of those in csrc/silicon_live.c it has. */
#define _DEFAULT_SOURCE             /* syscall */
#include <stddef.h>
#include <string.h>

#include "silicon.h"

#if defined EMU_LIVE && defined __linux__
#include <cpuid.h>
#include <immintrin.h>
#include <stdbool.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Linux lets a process use tiles once it has asked (Documentation/arch/x86/xstate.rst): component 18, the tiles' data. */
static bool tiles_granted(void)
{
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18 };
    return !syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA);
}

/* CPUID leaf 7 ([SDM] volume 2, CPUID); "avx512f" says that the operating system keeps the vectors, too. */
static bool has(int unit)
{
    unsigned a, b, c, d, a1, b1, c1, d1;
    if (!__builtin_cpu_supports("avx512f") || !__get_cpuid_count(7, 0, &a, &b, &c, &d))
        return false;
    if (!__get_cpuid_count(7, 1, &a1, &b1, &c1, &d1))
        a1 = 0;
    switch (unit) {
    case UNIT_AVX512F: return true;
    case UNIT_AVX512_BF16: return a1 >> 5 & 1;
    case UNIT_AVX512_VNNI: return c >> 11 & 1;
    case UNIT_AVX512_FP16: return d >> 23 & 1;
    case UNIT_AMX_BF16: return d >> 22 & 1 && tiles_granted();
    default: return d >> 25 & 1 && tiles_granted();
    }
}

const char *emu_live_name(int i)
{
    for (const live_instruction *found = emu_live_instructions; found->name; found++)
        if (has(found->unit) && !i--)
            return found->name;
    return NULL;
}

int emu_live(const char *name, uint32_t mxcsr, int64_t count, int m, int n, int k, const void *a, const void *b,
             const void *c, void *d)
{
    for (const live_instruction *found = emu_live_instructions; found->name; found++)
        if (!strcmp(found->name, name) && has(found->unit)) {
            const live_work work = {count, m, n, k, a, b, c, d};
            unsigned before = _mm_getcsr();
            _mm_setcsr(mxcsr);
            found->run(&work);
            _mm_setcsr(before);
            return EMU_DONE;
        }
    return EMU_NOT_HERE;
}
#else
const char *emu_live_name(int i)
{
    (void)i;
    return NULL;
}

int emu_live(const char *name, uint32_t mxcsr, int64_t count, int m, int n, int k, const void *a, const void *b,
             const void *c, void *d)
{
    (void)name, (void)mxcsr, (void)count, (void)m, (void)n, (void)k, (void)a, (void)b, (void)c, (void)d;
    return EMU_NOT_HERE;
}
#endif
