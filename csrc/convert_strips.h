/* The common conversions to nearest even: whole strips of 16 numbers, where all are ordinary, go from what they are to
 * binary32, and from there to what they become. */
#include <immintrin.h>
#include <math.h>

enum { AHEAD = 8192 };              /* bytes that numbers are asked for before they are needed, where memory takes the time */

/* Eight binary64 numbers as binary32, to nearest or to odd: cut, and the last bit set where something was. From that any
 * rounding to fewer bits is right (Boldo and Melquiond, "Emulation of FMA and Correctly Rounded Sums: Proved Algorithms
 * Using Rounding to Odd", IEEE Transactions on Computers, 2008). */
static ALWAYS_INLINE __m256 eight_doubles(const unsigned char *x, const bool odd)
{
#ifdef __AVX512VL__
    const __m512d number = _mm512_loadu_pd(x);
    if (!odd)
        return _mm512_cvtpd_ps(number);
    const __m256 cut = _mm512_cvt_roundpd_ps(number, _MM_FROUND_TO_ZERO | _MM_FROUND_NO_EXC);
    const __mmask8 inexact = _mm512_cmp_pd_mask(_mm512_cvtps_pd(cut), number, _CMP_NEQ_UQ);
    const __m256i code = _mm256_castps_si256(cut);
    return _mm256_castsi256_ps(_mm256_mask_or_epi32(code, inexact, code, _mm256_set1_epi32(1)));
#else
    const __m256d sign = _mm256_set1_pd(-0.0);
    __m128 part[2];
    __m256 inexact[2], above[2];                    /* by 64-bit lanes */
    for (int k = 0; k < 2; k++) {
        const __m256d number = _mm256_loadu_pd((const double *)x + 4 * k);
        part[k] = _mm256_cvtpd_ps(number);
        const __m256d back = _mm256_cvtps_pd(part[k]);
        inexact[k] = _mm256_castpd_ps(_mm256_cmp_pd(back, number, _CMP_NEQ_UQ));
        above[k] = _mm256_castpd_ps(_mm256_cmp_pd(_mm256_andnot_pd(sign, back), _mm256_andnot_pd(sign, number), _CMP_GT_OQ));
    }
    const __m256 rounded = _mm256_set_m128(part[1], part[0]);
    if (!odd)
        return rounded;
#define LANES_OF(of) _mm256_permute4x64_epi64(_mm256_castps_si256(_mm256_shuffle_ps(of[0], of[1], 0x88)), 0xD8)
    const __m256i cut = _mm256_add_epi32(_mm256_castps_si256(rounded), LANES_OF(above));         /* -1 */
    return _mm256_castsi256_ps(_mm256_or_si256(cut, _mm256_srli_epi32(LANES_OF(inexact), 31)));
#undef LANES_OF
#endif
}

static ALWAYS_INLINE void take_strip(const lanes p, const int take, const unsigned char *x, __m256 single[2])
{
    const __m256 times = _mm256_set1_ps(p.times);
    __m128i halves[2];
    if (take == TAKE_BYTE) {                        /* sign and exponent to where binary16 has them */
        const __m256i sign = _mm256_set1_epi16((short)0x8000);
        const __m256i code = _mm256_sll_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)x)),
                                              _mm_cvtsi32_si128(p.up));
        const __m256i magnitude = _mm256_srl_epi16(_mm256_andnot_si256(sign, code), _mm_cvtsi32_si128(p.narrower));
        const __m256i half = _mm256_or_si256(_mm256_and_si256(code, sign), magnitude);
        halves[0] = _mm256_castsi256_si128(half);
        halves[1] = _mm256_extracti128_si256(half, 1);
    }
    for (int k = 0; k < 2; k++)
        switch (take) {
        case TAKE_SINGLE: single[k] = _mm256_loadu_ps((const float *)x + 8 * k); break;
        case TAKE_DOUBLE: single[k] = eight_doubles(x + 64 * k, false); break;
        case TAKE_ODD: single[k] = eight_doubles(x + 64 * k, true); break;
        case TAKE_BRAIN:
            single[k] = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_loadu_si128((const __m128i *)x + k)),
                                                              16));
            break;
        case TAKE_HALF: halves[k] = _mm_loadu_si128((const __m128i *)x + k); /* fall through */
        default: single[k] = _mm256_mul_ps(_mm256_cvtph_ps(halves[k]), times);
        }
}

#ifdef __AVX512VL__
enum { WORDS = 16 };
#define LESSER(x, y) ((words)_mm512_min_epu32((__m512i)(x), (__m512i)(y)))
#define GREATER(x, y) ((words)_mm512_max_epu32((__m512i)(x), (__m512i)(y)))
#else
enum { WORDS = 8 };
#define LESSER(x, y) ((words)_mm256_min_epu32((__m256i)(x), (__m256i)(y)))
#define GREATER(x, y) ((words)_mm256_max_epu32((__m256i)(x), (__m256i)(y)))
#endif
typedef uint32_t __attribute__((vector_size(4 * WORDS))) words;
typedef float __attribute__((vector_size(4 * WORDS))) reals;

/* Codes by one addition, as NAME(nearest) in convert_round.h has it, and says why. */
static ALWAYS_INLINE words nearest_codes(const lanes p, words x)
{
    const words none = {0}, m = x & 0x7FFFFFFF, first = none + ((uint32_t)p.first << 23), last = none + ((uint32_t)p.last << 23);
    const words t = LESSER(GREATER(m & 0x7F800000, first), last), magic = t + ((uint32_t)p.cut << 23);
    const words sum = (words)((reals)m + (reals)magic), cut = none + (uint32_t)p.cut;      /* vectors shift faster by vectors */
    const words found = LESSER(sum - magic + (t >> cut) - (first >> cut), none + (uint32_t)p.max);
    const words sign = x >> (none + (uint32_t)p.to_sign) & (uint32_t)p.sign;
    return found | (sign & (words)(found != (p.zero[1] ? ~none : none)));
}
#undef LESSER
#undef GREATER

/* Sixteen numbers of 32 bits below 2^16 in 16 bits each. */
static ALWAYS_INLINE __m256i packed(__m256i low, __m256i high)
{
    return _mm256_permute4x64_epi64(_mm256_packus_epi32(low, high), 0xD8);
}

static ALWAYS_INLINE void give_strip(const lanes p, const int give, const int to, const __m256 single[2], __m256i made[4])
{
    for (int k = 0; k < 2; k++)
        made[k] = _mm256_castps_si256(single[k]);
    if (give == GIVE_NEAREST) {
#ifdef __AVX512VL__
        const __m512i x = _mm512_inserti64x4(_mm512_castsi256_si512(made[0]), made[1], 1);
        const __m512i code = (__m512i)nearest_codes(p, (words)x);
        made[0] = to == 1 ? _mm256_castsi128_si256(_mm512_cvtepi32_epi8(code)) : _mm512_cvtepi32_epi16(code);
#else
        for (int k = 0; k < 2; k++)
            made[k] = (__m256i)nearest_codes(p, (words)made[k]);
        made[0] = packed(made[0], made[1]);
        if (to == 1)
            made[0] = _mm256_permute4x64_epi64(_mm256_packus_epi16(made[0], made[0]), 0xD8);
#endif
    }
    if (give == GIVE_BRAIN) {                       /* the upper half, and a carry from the lower and the parity */
        const __m256i one = _mm256_set1_epi32(1), half = _mm256_set1_epi32(0x7FFF);
        for (int k = 0; k < 2; k++) {
            __m256i bias = _mm256_add_epi32(half, _mm256_and_si256(_mm256_srli_epi32(made[k], 16), one));
            made[k] = _mm256_srli_epi32(_mm256_add_epi32(made[k], bias), 16);
        }
        made[0] = packed(made[0], made[1]);
    }
    if (give == GIVE_HALF)
        made[0] = _mm256_set_m128i(_mm256_cvtps_ph(single[1], _MM_FROUND_TO_NEAREST_INT),
                                   _mm256_cvtps_ph(single[0], _MM_FROUND_TO_NEAREST_INT));
    for (int k = 0; give == GIVE_DOUBLE && k < 2; k++) {
        made[2 * k] = _mm256_castpd_si256(_mm256_cvtps_pd(_mm256_castps256_ps128(single[k])));
        made[2 * k + 1] = _mm256_castpd_si256(_mm256_cvtps_pd(_mm256_extractf128_ps(single[k], 1)));
    }
}

/* With `far`, where memory takes the time, numbers are asked for before they are needed, and codes are written past the
 * cache (all_lanes fences): y is at a multiple of 16. False, with rubbish in y, if something is out of the ordinary. */
static ALWAYS_INLINE bool strips(const lanes *p, const int take, const int from, const int give, const int to,
                                 const bool far, int n, const unsigned char *x, unsigned char *y)
{
    enum { STRIP = 16, LINE = 64 };
    const lanes all = *p;                           /* which no store to y changes */
    const __m256i watch = _mm256_set1_epi32((int)p->seen);
    __m256i worst = _mm256_setzero_si256();
    for (int i = 0; i < n; i += STRIP, x += STRIP * from, y += STRIP * to) {
        __m256 single[2];
        __m256i made[4];
        for (int at = 0; far && at < STRIP * from; at += LINE)
            __builtin_prefetch(x + AHEAD + at);
        take_strip(all, take, x, single);
        for (int k = 0; k < 2; k++)
            worst = _mm256_max_epu32(worst, _mm256_and_si256(_mm256_castps_si256(single[k]), watch));
        give_strip(all, give, to, single, made);
        for (int k = 0; k < to; k++) {
            const __m128i part = k & 1 ? _mm256_extracti128_si256(made[k / 2], 1) : _mm256_castsi256_si128(made[k / 2]);
            if (far)
                _mm_stream_si128((__m128i *)y + k, part);
            else
                _mm_storeu_si128((__m128i *)y + k, part);
        }
    }
    uint32_t each[8], most = 0;
    _mm256_storeu_si256((__m256i *)each, worst);
    for (int j = 0; j < 8; j++)
        most = each[j] > most ? each[j] : most;
    return most < p->ordinary;
}

static bool in_strips(const lanes *p, int n, const unsigned char *x, unsigned char *y)
{
    const bool far = p->far && (uintptr_t)y % 16 == 0;
#define WAY(take_, from, give_, to)                                                                                       \
    if (p->take == take_ && p->give == give_ && p->to_bytes == to)                                                        \
        return far ? strips(p, take_, from, give_, to, true, n, x, y) : strips(p, take_, from, give_, to, false, n, x, y)
    WAY(TAKE_SINGLE, 4, GIVE_NEAREST, 1);
    WAY(TAKE_SINGLE, 4, GIVE_NEAREST, 2);
    WAY(TAKE_SINGLE, 4, GIVE_BRAIN, 2);
    WAY(TAKE_SINGLE, 4, GIVE_HALF, 2);
    WAY(TAKE_SINGLE, 4, GIVE_DOUBLE, 8);
    WAY(TAKE_DOUBLE, 8, GIVE_SINGLE, 4);
    WAY(TAKE_ODD, 8, GIVE_NEAREST, 1);
    WAY(TAKE_ODD, 8, GIVE_NEAREST, 2);
    WAY(TAKE_ODD, 8, GIVE_BRAIN, 2);
    WAY(TAKE_ODD, 8, GIVE_HALF, 2);
    WAY(TAKE_BRAIN, 2, GIVE_SINGLE, 4);
    WAY(TAKE_BRAIN, 2, GIVE_NEAREST, 1);
    WAY(TAKE_HALF, 2, GIVE_SINGLE, 4);
    WAY(TAKE_HALF, 2, GIVE_NEAREST, 1);
    WAY(TAKE_BYTE, 1, GIVE_SINGLE, 4);
#undef WAY
    return false;
}

/* Numbers as binary32, rounded to odd. */
static void odd_lanes(bool far, int n, const unsigned char *x, float *lane)
{
    int i = 0;
    for (; i + 8 <= n; i += 8) {
        if (far)
            __builtin_prefetch(x + i * 8 + AHEAD);
        _mm256_storeu_ps(lane + i, eight_doubles(x + i * 8, true));
    }
    unsigned char some[64] = {0};
    float made[8];
    memcpy(some, x + i * 8, (size_t)(n - i) * 8);
    _mm256_storeu_ps(made, eight_doubles(some, true));
    memcpy(lane + i, made, (size_t)(n - i) * sizeof(float));
}
