/* Sums of many terms in a format, each addition rounded. The method is that of emulator/arithmetic.py in binary64: a sum and
 * its error (Knuth, volume 2, section 4.2.2, theorem B), joined by rounding to odd, which with two bits more than the format
 * has rounds right after that in every mode (Boldo and Melquiond 2008, doi 10.1109/TC.2007.70819); then emu_convert. */
#include <math.h>

#include "number.h"

enum { PLACES = 512 };

/* sum = x + y, or x - y where `minus`, to odd. An exact zero of unlike addends is -0 where `down` (IEEE 754-2019, 6.3). */
static void add(int n, const double *x, const double *y, bool minus, bool down, uint64_t *sum)
{
    for (int i = 0; i < n; i++) {
        double a = x[i], b = minus ? -y[i] : y[i], total = a + b, part = total - a;
        double error = (a - (total - part)) + (b - part);
        uint64_t code, lost, first, second;
        memcpy(&code, &total, sizeof code);
        memcpy(&lost, &error, sizeof lost);
        memcpy(&first, &a, sizeof first);
        memcpy(&second, &b, sizeof second);
        uint64_t back = (code ^ lost) >> 63, step = (uint64_t)((error > 0) | (error < 0)) & ~code & 1;
        code += (1 - 2 * back) & (0 - step);
        code |= (uint64_t)(down & (total == 0)) * ((first ^ second) >> 63 << 63);
        sum[i] = total != total ? UINT64_C(0x7FF8000000000000) : code;
    }
}

int emu_accumulate(const emu_conversion *to, const emu_conversion *back, int64_t steps, int64_t places, const double *terms,
                   const uint32_t *random, double *totals, double *lost, void *codes, int64_t *counts)
{
    format f;
    uint64_t sum[PLACES], room[PLACES];
    double term[PLACES], above[PLACES];
    const bool down = to->rounding == EMU_ROUND_RD;
    if (!describe(&to->to, &f))
        return EMU_BAD_ROW;
    for (int64_t p = 0; p < places; p += PLACES) {
        const int n = places - p < PLACES ? (int)(places - p) : PLACES;
        const uint32_t *bits = random ? random + p : NULL;
        unsigned char *last = (unsigned char *)codes + p * f.bytes;
        int status = EMU_DONE;
        for (int64_t i = 0; i < steps && !status; i++) {
            const double *next = terms + i * places + p;
#define ROUNDED(X, Y, MINUS, CODES, RESULT)                                                                               \
    add(n, X, Y, MINUS, down, sum);                                                                                       \
    status = status ? status : emu_convert(to, n, sum, bits, CODES, counts, 1);                                           \
    status = status ? status : emu_convert(back, n, CODES, NULL, RESULT, NULL, 1);                                        \
    bits = bits ? bits + places : NULL
            if (!lost) {
                ROUNDED(totals + p, next, false, last, totals + p);
                continue;
            }
            ROUNDED(next, lost + p, true, room, term);
            ROUNDED(totals + p, term, false, last, above);
            ROUNDED(above, totals + p, true, room, lost + p);
            ROUNDED(lost + p, term, true, room, lost + p);
            memcpy(totals + p, above, (size_t)n * sizeof *above);
        }
        if (status)
            return status;
    }
    return EMU_DONE;
}
