/* POWER10's instructions over arrays: reads A, B and C of `count` launches from standard input, writes D. Run under QEMU. */
#include <altivec.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef vector unsigned char bytes;

/* A and B are a vector each (A of binary64 two), C and D four. */
#define OUTER(NAME)                                                                                               \
    static void NAME(bytes *a, bytes b, __vector_quad *acc)                                                       \
    {                                                                                                             \
        __builtin_mma_##NAME(acc, a[0], b);                                                                       \
    }
OUTER(xvbf16ger2pp) OUTER(xvbf16ger2pn) OUTER(xvbf16ger2np) OUTER(xvbf16ger2nn)
OUTER(xvf16ger2pp) OUTER(xvf16ger2pn) OUTER(xvf16ger2np) OUTER(xvf16ger2nn)
OUTER(xvf32gerpp)

static void xvf64gerpp(bytes *a, bytes b, __vector_quad *acc)
{
    __vector_pair pair;
    __builtin_vsx_assemble_pair(&pair, a[1], a[0]);
    __builtin_mma_xvf64gerpp(acc, pair, b);
}

#define ROW(NAME) {#NAME, NAME}
static const struct {
    const char *name;
    void (*run)(bytes *, bytes, __vector_quad *);
} INSTRUCTIONS[] = {
    ROW(xvbf16ger2pp), ROW(xvbf16ger2pn), ROW(xvbf16ger2np), ROW(xvbf16ger2nn), ROW(xvf16ger2pp), ROW(xvf16ger2pn),
    ROW(xvf16ger2np), ROW(xvf16ger2nn), ROW(xvf32gerpp), ROW(xvf64gerpp),
};

int main(int argc, char **argv)
{
    for (size_t i = 0; argc > 2 && i < sizeof INSTRUCTIONS / sizeof *INSTRUCTIONS; i++) {
        if (strcmp(INSTRUCTIONS[i].name, argv[1]))
            continue;
        int wide = strstr(argv[1], "f64") != NULL;
        for (long count = atol(argv[2]); count--;) {
            bytes a[2], b, c[4];
            __vector_quad acc;
            if (fread(a, 16, 1 + wide, stdin) != (size_t)(1 + wide) || fread(&b, 16, 1, stdin) + fread(c, 16, 4, stdin) != 5)
                return 1;
            __builtin_mma_build_acc(&acc, c[0], c[1], c[2], c[3]);
            INSTRUCTIONS[i].run(a, b, &acc);
            __builtin_mma_disassemble_acc(c, &acc);
            fwrite(c, 16, 4, stdout);
        }
        return 0;
    }
    return 2;
}
