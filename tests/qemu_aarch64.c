/* Arm's instructions over arrays: reads A, B and C of `count` launches from standard input, writes D. Run under QEMU. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VECTOR(NAME, ASSEMBLY)                                                                                    \
    static void NAME(const uint8_t *a, const uint8_t *b, const uint8_t *c, uint8_t *d)                            \
    {                                                                                                             \
        __asm__ volatile(".arch armv8.6-a+bf16\n ldr q1, [%0]\n ldr q2, [%1]\n ldr q0, [%2]\n" ASSEMBLY           \
                         "\n str q0, [%3]" : : "r"(a), "r"(b), "r"(c), "r"(d) : "v0", "v1", "v2", "memory");      \
    }
VECTOR(bfdot, "bfdot v0.4s, v1.8h, v2.8h")
VECTOR(bfmmla, "bfmmla v0.4s, v1.8h, v2.8h")
VECTOR(bfmlalb, "bfmlalb v0.4s, v1.8h, v2.8h")
VECTOR(bfmlalt, "bfmlalt v0.4s, v1.8h, v2.8h")

/* Rows of ZA0.S are every fourth vector of ZA; D is `n` rows of a vector. */
#define OUTER(NAME, ASSEMBLY)                                                                                     \
    static void NAME(const uint8_t *a, const uint8_t *b, const uint8_t *c, uint8_t *d)                            \
    {                                                                                                             \
        __asm__ volatile(                                                                                         \
            ".arch armv9-a+sme\n smstart\n rdsvl x9, #1\n lsr x10, x9, #2\n mov x11, %2\n mov w12, #0\n"          \
            "1: ldr za[w12, 0], [x11]\n add x11, x11, x9\n add w12, w12, #4\n subs x10, x10, #1\n b.ne 1b\n"      \
            "ptrue p0.b\n ldr z1, [%0]\n ldr z2, [%1]\n" ASSEMBLY "\n"                                            \
            "lsr x10, x9, #2\n mov x11, %3\n mov w12, #0\n"                                                       \
            "2: str za[w12, 0], [x11]\n add x11, x11, x9\n add w12, w12, #4\n subs x10, x10, #1\n b.ne 2b\n"      \
            "smstop" : : "r"(a), "r"(b), "r"(c), "r"(d)                                                           \
            : "x9", "x10", "x11", "x12", "v0", "v1", "v2", "v3", "v4", "v5", "v6", "v7", "v8", "v9", "v10", "v11",  \
              "v12", "v13", "v14", "v15", "v16", "v17", "v18", "v19", "v20", "v21", "v22", "v23", "v24", "v25",   \
              "v26", "v27", "v28", "v29", "v30", "v31", "cc", "memory");                                          \
    }
OUTER(bfmopa, "bfmopa za0.s, p0/m, p0/m, z1.h, z2.h")
OUTER(fmopa_f16, "fmopa za0.s, p0/m, p0/m, z1.h, z2.h")
OUTER(fmopa_f32, "fmopa za0.s, p0/m, p0/m, z1.s, z2.s")

static const struct {
    const char *name;
    void (*run)(const uint8_t *, const uint8_t *, const uint8_t *, uint8_t *);
    int outer;
} INSTRUCTIONS[] = {
    {"bfdot", bfdot, 0}, {"bfmmla", bfmmla, 0}, {"bfmlalb", bfmlalb, 0}, {"bfmlalt", bfmlalt, 0},
    {"bfmopa", bfmopa, 1}, {"fmopa.f32.f16.f16", fmopa_f16, 1}, {"fmopa.f32.f32.f32", fmopa_f32, 1},
};

int main(int argc, char **argv)
{
    uint64_t vector = 0;
    __asm__ volatile(".arch armv9-a+sme\n rdsvl %0, #1" : "=r"(vector));
    if (argc < 3)                               /* the bytes of a streaming vector */
        return printf("%d\n", (int)vector) < 0;
    for (size_t i = 0; i < sizeof INSTRUCTIONS / sizeof *INSTRUCTIONS; i++) {
        if (strcmp(INSTRUCTIONS[i].name, argv[1]))
            continue;
        size_t side = INSTRUCTIONS[i].outer ? vector : 16, tile = INSTRUCTIONS[i].outer ? vector * vector / 4 : 16;
        uint8_t *a = malloc(side), *b = malloc(side), *c = malloc(tile), *d = malloc(tile);
        for (long count = atol(argv[2]); count--;) {
            if (fread(a, side, 1, stdin) + fread(b, side, 1, stdin) + fread(c, tile, 1, stdin) != 3)
                return 1;
            INSTRUCTIONS[i].run(a, b, c, d);
            fwrite(d, tile, 1, stdout);
        }
        return 0;
    }
    return 2;
}
