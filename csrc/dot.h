/* The methods that are not in dot.c, a file per vendor: each as emu_dots, which hands them on. */
#ifndef EMU_DOT_H
#define EMU_DOT_H

#include "number.h"

int x86_dots(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, const void *b, const void *c,
             void *d);
int amd_dots(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, const void *b, const void *c,
             void *d);
int gaudi_dots(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, const void *b, const void *c,
               void *d);
int documented_dots(const emu_row *row, int64_t batch, int64_t m, int64_t n, int64_t k, const void *a, const void *b,
                    const void *c, const void *scale_a, const void *scale_b, void *d);

#endif
