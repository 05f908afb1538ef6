/* The kernels for AVX-512 with half-precision arithmetic: those of AVX-512, and one for the FP8 adders that keep 13 bits.
 * A lane holds two halves, for two consecutive k, so one instruction does 32 products.
 *
 * Why it is exact. A's values are scaled so that the largest exponent in the panel is 7, B's so that it is 6; exponents
 * below are those after scaling, and u = 2^(E-13) is the unit of the sum. All operations round toward zero, and those on
 * halves keep subnormals whatever MXCSR says (Intel SDM, volume 1, 14.3: DAZ and FTZ do not apply to FP16).
 *  - E5M2 spans 31 binades from its largest exponent to the last bit of its smallest number, E4M3 17. So a is a multiple
 *    of 2^(7-31) = 2^-24, and exact as a half. b of E5M2 is one of 2^-25; where it is cut, its 3-bit significand says
 *    that it is below 2^-22.
 *  - Sums are done here only if E >= -1, so u >= 2^-14. As a is below 2^8, a cut b gives a product below u: nothing,
 *    whether b is cut or not.
 *  - The product of significands of 4 bits has 8, and is below 2^15: exact as a half, or if subnormal cut to a multiple
 *    of 2^-24. So is u, and therefore cutting it to a multiple of u afterwards gives what the exact product would.
 *  - s = 2^(13-E) is at most 2^14. From E = 28 on it is taken for 0, as any product is then below u. Otherwise
 *    scaling by it is exact, or loses what is below 1.
 *  - |product * s| < 4 * 2^13 fits in int16, and the sum of 32 in int32.
 * A group some of whose products, not all zero, have E < -1 goes through floats instead. */
#include "avx512.h"

typedef uint16_t shorts __attribute__((vector_size(64)));

enum { TOP_A = 7, TOP_B = 6, LEAST = -1 };

static inline __m256i halves(floats x, int exponent)
{
    return _mm512_cvtps_ph((__m512)(x * (floats)power(exponent)), _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
}

static void narrow_a(const float *value, int count, int top, uint16_t *to)
{
    for (int i = 0; i < count; i += LANES)
        _mm256_store_si256((__m256i *)(to + i), halves(*(const floats *)(value + i), TOP_A - top));
}

static void narrow_b(const float *value, int depth, int top, uint16_t *to)
{
    const floats *b = (const floats *)value;
    words *pairs = (words *)to;
    for (size_t k = 0; k < (size_t)depth; k += 2)
        for (size_t v = 0; v < 4; v++)
            pairs[2 * k + v] = (words)_mm512_cvtepu16_epi32(halves(b[4 * k + v], TOP_B - top))
                             | (words)_mm512_cvtepu16_epi32(halves(b[4 * k + 4 + v], TOP_B - top)) << 16;
}

static bool chain_narrow(const tile *t)
{
    const constants is = constants_of(t);
    size_t pairs = (size_t)t->terms / 2;
    int shift = TOP_A + TOP_B - t->tops + t->low;       /* a claim byte and this are an exponent after scaling */
    const bytes least = (bytes){0} + (uint8_t)(LEAST - shift);
    const shorts from = (shorts){0} + (uint16_t)((LEAST - shift) << 7), zero = (shorts){0} + (uint16_t)((28 - shift) << 7);
    const shorts ones = (shorts){0} + 1;
    words unused = {0};
    for (size_t group = 0; group < (size_t)t->groups; group++)
        for (size_t row = 0; row < (size_t)t->rows; row++) {
            floats *c = (floats *)(t->c + row * WIDTH);
            words top[4], sum[4], claims = claims_of(t, group, row, &is.clear, false);
            align(&is, claims, c, false, top, sum);
            if (_mm512_cmplt_epu8_mask((__m512i)((bytes)claims - 1), (__m512i)(least - 1))) {
                floats s[4];
                for (int v = 0; v < 4; v++)
                    s[v] = (floats)(is.one - top[v]);
                add_products(t, group, row, s, false, false, sum, &unused);
            } else {
                __m512h s[4];
                for (int v = 0; v < 4; v++) {       /* in both halves, 2^(13-E): exponent field 15 + 13 - E, or zero */
                    shorts e = (shorts)_mm512_max_epu16((__m512i)(top[v] | top[v] >> 16), (__m512i)from);
                    s[v] = (__m512h)((shorts)_mm512_subs_epu16((__m512i)zero, (__m512i)e) << 3);
                }
                const uint32_t *a = (const uint32_t *)(t->a_half + (group * ROWS + row) * 2 * pairs);
                const __m512h *b = (const __m512h *)(t->b_half + group * 2 * pairs * WIDTH);
                for (size_t k = 0; k < pairs; k++) {
                    __m512h x = (__m512h)_mm512_set1_epi32((int)a[k]);
                    for (int v = 0; v < 4; v++)
                        sum[v] = (words)_mm512_dpwssd_epi32(
                            (__m512i)sum[v], _mm512_cvttph_epi16(_mm512_mul_ph(_mm512_mul_ph(b[4 * k + v], x), s[v])),
                            (__m512i)ones);
                    KEEP(sum);
                }
            }
            finish(&is, top, sum, false, c, &unused);
        }
    return false;
}

const kernels emu_kernels_avx512fp16 = {COMMON_KERNELS, .narrow_a = narrow_a, .narrow_b = narrow_b,
                                        .chain_narrow = chain_narrow};
