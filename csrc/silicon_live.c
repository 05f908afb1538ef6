/* Intel's instructions, each in a loop over arrays. Written as assembly: a compiler may exchange the factors of a product,
 * which decides the NaN that comes out. In this syntax the destination comes last, so A, the first source, comes second. */
#include <immintrin.h>
#include <stddef.h>
#include <string.h>

#include "silicon.h"

typedef __m512i whole;
typedef __m256i half;

/* One vector of each operand per turn: A and B of these types, C and D of the type of the result. */
#define LOOP(NAME, A, B, D, ASSEMBLY)                                                                                      \
    static void NAME(const live_work *w)                                                                                  \
    {                                                                                                                     \
        for (int64_t i = 0; i < w->count; i++) {                                                                          \
            A a;                                                                                                          \
            B b = {0};                                                                                                    \
            D d = {0};                                                                                                    \
            memcpy(&a, w->a + i * (ptrdiff_t)sizeof a, sizeof a);                                                         \
            if (w->b)                                                                                                     \
                memcpy(&b, w->b + i * (ptrdiff_t)sizeof b, sizeof b);                                                     \
            if (w->c)                                                                                                     \
                memcpy(&d, w->c + i * (ptrdiff_t)sizeof d, sizeof d);                                                     \
            __asm__ volatile(ASSEMBLY : "+v"(d) : "v"(a), "v"(b));                                                        \
            memcpy(w->d + i * (ptrdiff_t)sizeof d, &d, sizeof d);                                                         \
        }                                                                                                                 \
    }
#define THREE(NAME) LOOP(NAME, whole, whole, whole, #NAME " %2, %1, %0")
#define ONE(NAME, A, D) LOOP(NAME, A, half, D, #NAME " %1, %0")

/* C is the accumulator. */
THREE(vdpbf16ps) THREE(vpdpbusd) THREE(vpdpbusds) THREE(vpdpwssd) THREE(vpdpwssds)
THREE(vaddph) THREE(vsubph) THREE(vmulph)
THREE(vcvtne2ps2bf16)
/* C is the first operand of the mnemonic, A the second and B the third. */
THREE(vfmadd132ph) THREE(vfmadd213ph) THREE(vfmadd231ph)
ONE(vcvtneps2bf16, whole, half) ONE(vcvtps2phx, whole, half) ONE(vcvtph2ps, half, whole) ONE(vcvtph2psx, half, whole)
#define PS2PH(IMM) LOOP(vcvtps2ph_##IMM, whole, half, half, "vcvtps2ph $" #IMM ", %1, %0")
PS2PH(0) PS2PH(1) PS2PH(2) PS2PH(3) PS2PH(4)

typedef struct {                /* the operand of LDTILECFG, palette 1 */
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
} __attribute__((aligned(64))) tile_shapes;

/* Tiles 0 (C, D), 1 (A) and 2 (B). A has k pieces per row, B n pieces in each of k rows. */
#define TILES(NAME)                                                                                                       \
    static void NAME(const live_work *w)                                                                                  \
    {                                                                                                                     \
        const int width = 4 * w->n, depth = 4 * w->k;                                                                     \
        tile_shapes shapes = {.palette = 1, .row_bytes = {(uint16_t)width, (uint16_t)depth, (uint16_t)width},             \
                              .rows = {(uint8_t)w->m, (uint8_t)w->m, (uint8_t)w->k}};                                     \
        _tile_loadconfig(&shapes);                                                                                        \
        for (int64_t i = 0; i < w->count; i++) {                                                                          \
            _tile_loadd(0, w->c + i * w->m * width, (size_t)width);                                                       \
            _tile_loadd(1, w->a + i * w->m * depth, (size_t)depth);                                                       \
            _tile_loadd(2, w->b + i * w->k * width, (size_t)width);                                                       \
            __asm__ volatile(#NAME " %%tmm2, %%tmm1, %%tmm0" ::: "memory");                                               \
            _tile_stored(0, w->d + i * w->m * width, (size_t)width);                                                      \
        }                                                                                                                 \
        _tile_release();                                                                                                  \
    }

TILES(tdpbf16ps) TILES(tdpbssd) TILES(tdpbsud) TILES(tdpbusd) TILES(tdpbuud)

#define ROW(NAME, UNIT) {#NAME, UNIT, NAME},

const live_instruction emu_live_instructions[] = {
    ROW(tdpbf16ps, UNIT_AMX_BF16)
    ROW(tdpbssd, UNIT_AMX_INT8) ROW(tdpbsud, UNIT_AMX_INT8) ROW(tdpbusd, UNIT_AMX_INT8) ROW(tdpbuud, UNIT_AMX_INT8)
    ROW(vdpbf16ps, UNIT_AVX512_BF16)
    ROW(vpdpbusd, UNIT_AVX512_VNNI) ROW(vpdpbusds, UNIT_AVX512_VNNI)
    ROW(vpdpwssd, UNIT_AVX512_VNNI) ROW(vpdpwssds, UNIT_AVX512_VNNI)
    ROW(vcvtneps2bf16, UNIT_AVX512_BF16) ROW(vcvtne2ps2bf16, UNIT_AVX512_BF16)
    ROW(vcvtps2ph_0, UNIT_AVX512F) ROW(vcvtps2ph_1, UNIT_AVX512F) ROW(vcvtps2ph_2, UNIT_AVX512F)
    ROW(vcvtps2ph_3, UNIT_AVX512F) ROW(vcvtps2ph_4, UNIT_AVX512F) ROW(vcvtph2ps, UNIT_AVX512F)
    ROW(vcvtps2phx, UNIT_AVX512_FP16) ROW(vcvtph2psx, UNIT_AVX512_FP16)
    ROW(vaddph, UNIT_AVX512_FP16) ROW(vsubph, UNIT_AVX512_FP16) ROW(vmulph, UNIT_AVX512_FP16)
    ROW(vfmadd132ph, UNIT_AVX512_FP16) ROW(vfmadd213ph, UNIT_AVX512_FP16) ROW(vfmadd231ph, UNIT_AVX512_FP16)
    {NULL, 0, NULL},
};
