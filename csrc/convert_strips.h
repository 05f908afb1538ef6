/* Conversions to nearest even that the processor has instructions for, or nearly: whole strips of 16 numbers that are
 * ordinary go from what they are to binary32, and from there to what they become. */
#include <immintrin.h>
#include <math.h>

enum { AHEAD = 8192 };              /* bytes that numbers are asked for before they are needed, where memory takes the time */
enum { TO_NEAREST = 0x1F80, TOWARD_ZERO = 0x7F80 };     /* MXCSR: that rounding, no exception, no subnormal taken for zero */

/* Eight binary64 numbers as binary32, as the rounding mode of the moment has it. `odd`: that is toward zero, and what was
 * inexact gets its last bit set: rounded to odd, from which any rounding to fewer bits is right (Boldo and Melquiond,
 * "Emulation of FMA and Correctly Rounded Sums: Proved Algorithms Using Rounding to Odd", 2008). */
static ALWAYS_INLINE __m256 eight_doubles(const unsigned char *x, const bool odd)
{
#ifdef __AVX512VL__
    const __m512d number = _mm512_loadu_pd(x);
    const __m256 cut = _mm512_cvtpd_ps(number);
    const __mmask8 inexact = _mm512_cmp_pd_mask(_mm512_cvtps_pd(cut), number, _CMP_NEQ_UQ);
    const __m256i code = _mm256_castps_si256(cut);
    return odd ? _mm256_castsi256_ps(_mm256_mask_or_epi32(code, inexact, code, _mm256_set1_epi32(1))) : cut;
#else
    const __m256d low = _mm256_loadu_pd((const double *)x), high = _mm256_loadu_pd((const double *)x + 4);
    const __m128 first = _mm256_cvtpd_ps(low), last = _mm256_cvtpd_ps(high);
    const __m256 cut = _mm256_set_m128(last, first);
    const __m256 inexact_low = _mm256_castpd_ps(_mm256_cmp_pd(_mm256_cvtps_pd(first), low, _CMP_NEQ_UQ));
    const __m256 inexact_high = _mm256_castpd_ps(_mm256_cmp_pd(_mm256_cvtps_pd(last), high, _CMP_NEQ_UQ));
    const __m256i pairs = _mm256_castps_si256(_mm256_shuffle_ps(inexact_low, inexact_high, 0x88));
    const __m256i inexact = _mm256_srli_epi32(_mm256_permute4x64_epi64(pairs, 0xD8), 31);
    return odd ? _mm256_castsi256_ps(_mm256_or_si256(_mm256_castps_si256(cut), inexact)) : cut;
#endif
}

static ALWAYS_INLINE void take_strip(const lanes *p, const int take, const unsigned char *x, __m256 single[2])
{
    const __m256 times = _mm256_set1_ps(p->times);
    __m128i halves[2];
    if (take == TAKE_BYTE) {                        /* sign and exponent to where binary16 has them */
        const __m256i sign = _mm256_set1_epi16((short)0x8000);
        const __m256i code = _mm256_sll_epi16(_mm256_cvtepu8_epi16(_mm_loadu_si128((const __m128i *)x)),
                                              _mm_cvtsi32_si128(p->up));
        const __m256i magnitude = _mm256_srl_epi16(_mm256_andnot_si256(sign, code), _mm_cvtsi32_si128(p->narrower));
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

static ALWAYS_INLINE void give_strip(const int give, const __m256 single[2], __m256i made[4])
{
    for (int k = 0; k < 2; k++)
        made[k] = _mm256_castps_si256(single[k]);
    if (give == GIVE_BRAIN) {                       /* the upper half, and a carry from the lower and the parity */
        const __m256i one = _mm256_set1_epi32(1), half = _mm256_set1_epi32(0x7FFF);
        for (int k = 0; k < 2; k++) {
            __m256i bias = _mm256_add_epi32(half, _mm256_and_si256(_mm256_srli_epi32(made[k], 16), one));
            made[k] = _mm256_srli_epi32(_mm256_add_epi32(made[k], bias), 16);
        }
        made[0] = _mm256_permute4x64_epi64(_mm256_packus_epi32(made[0], made[1]), 0xD8);
    } else if (give == GIVE_HALF)
        made[0] = _mm256_set_m128i(_mm256_cvtps_ph(single[1], _MM_FROUND_TO_NEAREST_INT),
                                   _mm256_cvtps_ph(single[0], _MM_FROUND_TO_NEAREST_INT));
    else if (give == GIVE_DOUBLE)
        for (int k = 0; k < 2; k++) {
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
    const __m256i magnitude = _mm256_set1_epi32(0x7FFFFFFF);
    __m256i worst = _mm256_setzero_si256();
    for (int i = 0; i < n; i += STRIP, x += STRIP * from, y += STRIP * to) {
        __m256 single[2];
        __m256i made[4];
        for (int at = 0; far && at < STRIP * from; at += LINE)
            __builtin_prefetch(x + AHEAD + at);
        take_strip(p, take, x, single);
        for (int k = 0; k < 2; k++)
            worst = _mm256_max_epu32(worst, _mm256_and_si256(_mm256_castps_si256(single[k]), magnitude));
        give_strip(give, single, made);
        for (int k = 0; k < to / 2; k++)
            if (far) {
                _mm_stream_si128((__m128i *)y + 2 * k, _mm256_castsi256_si128(made[k]));
                _mm_stream_si128((__m128i *)y + 2 * k + 1, _mm256_extracti128_si256(made[k], 1));
            } else
                _mm256_storeu_si256((__m256i *)y + k, made[k]);
    }
    uint32_t each[8], all = 0;
    _mm256_storeu_si256((__m256i *)each, worst);
    for (int j = 0; j < 8; j++)
        all = each[j] > all ? each[j] : all;
    return all < p->ordinary;
}

static bool in_strips(const lanes *p, int n, const unsigned char *x, unsigned char *y)
{
    const bool far = p->far && (uintptr_t)y % 16 == 0;
    bool done = false;
#define WAY(take_, from, give_, to)                                                                                       \
    if (p->take == take_ && p->give == give_)                                                                             \
        done = far ? strips(p, take_, from, give_, to, true, n, x, y) : strips(p, take_, from, give_, to, false, n, x, y)
    WAY(TAKE_SINGLE, 4, GIVE_BRAIN, 2);
    WAY(TAKE_SINGLE, 4, GIVE_HALF, 2);
    WAY(TAKE_SINGLE, 4, GIVE_DOUBLE, 8);
    WAY(TAKE_DOUBLE, 8, GIVE_SINGLE, 4);
    WAY(TAKE_BRAIN, 2, GIVE_SINGLE, 4);
    WAY(TAKE_HALF, 2, GIVE_SINGLE, 4);
    WAY(TAKE_BYTE, 1, GIVE_SINGLE, 4);
    if (p->take == TAKE_ODD) {
        _mm_setcsr(TOWARD_ZERO);                    /* the compiler moves no load or store past this */
        WAY(TAKE_ODD, 8, GIVE_BRAIN, 2);
        WAY(TAKE_ODD, 8, GIVE_HALF, 2);
        _mm_setcsr(TO_NEAREST);
    }
#undef WAY
    return done;
}

/* Numbers as binary32, rounded to odd. */
static void odd_lanes(bool far, int n, const unsigned char *x, float *lane)
{
    _mm_setcsr(TOWARD_ZERO);
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
    _mm_setcsr(TO_NEAREST);
}
