/* Random bits by position: Philox4x32-10. */
#include "emulator.h"

static void philox(uint64_t key, uint64_t counter, uint32_t out[4])
{
    uint32_t c0 = (uint32_t)counter, c1 = (uint32_t)(counter >> 32), c2 = 0, c3 = 0;
    uint32_t k0 = (uint32_t)key, k1 = (uint32_t)(key >> 32);
    for (int round = 0; round < 10; round++) {
        uint64_t p = UINT64_C(0xD2511F53) * c0, q = UINT64_C(0xCD9E8D57) * c2;
        uint32_t next0 = (uint32_t)(q >> 32) ^ c1 ^ k0, next2 = (uint32_t)(p >> 32) ^ c3 ^ k1;
        c0 = next0;
        c1 = (uint32_t)q;
        c2 = next2;
        c3 = (uint32_t)p;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    out[0] = c0;
    out[1] = c1;
    out[2] = c2;
    out[3] = c3;
}

void emu_philox4x32(uint64_t key, uint64_t start, int64_t n, uint32_t *words)
{
    int64_t i = 0;
    uint32_t four[4];
    while (i < n) {
        philox(key, (start + (uint64_t)i) / 4, four);
        for (unsigned j = (unsigned)((start + (uint64_t)i) % 4); j < 4 && i < n; j++)
            words[i++] = four[j];
    }
}
