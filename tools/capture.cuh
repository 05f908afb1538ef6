// What every captured kernel shares: where an element sits, how a tile is loaded and stored, and how a launch is run.
// tools/capture.py appends one kernel per PTX form and the table `forms`; nothing here knows a form.
//
// Operands are row-major matrices of codes, one code per uint8/16/32/64, a (tiles, m, k), b (tiles, k, n), c and d (tiles, m, n).
#pragma once
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <cuda_runtime.h>

typedef unsigned long long u64;
typedef uint32_t u32;
typedef uint16_t u16;
typedef uint8_t u8;

struct Operands {
    const void *a, *b, *c, *scale_a, *scale_b;
    void *d;
};

// Matrix fragments (PTX ISA, "Warp Level Matrix Instructions: mma" and "Asynchronous wgmma"): the row and column that element i
// of a lane holds. One map serves A, B (its rows are the columns of the matrix), C and D of every shape but m8n8k4 with f16:
// R groups of eight rows, E neighbouring elements of a row at a time.
template <int R, int E> struct Grid {
    static __host__ __device__ void place(int lane, int i, int &row, int &col) {
        row = lane / 4 + 8 * (i / E % R);
        col = lane % 4 * E + i % E + 4 * E * (i / (E * R));
    }
};

// m8n8k4 with f16: four independent products per warp, one per pair of quads {lanes 4p..4p+3, 16+4p..16+4p+3}.
struct Quad {
    static __host__ __device__ void place(int lane, int i, int &row, int &col) {
        row = lane % 4 + lane / 16 * 4;
        col = i;
    }
};
struct QuadF32 {
    static __host__ __device__ void place(int lane, int i, int &row, int &col) {
        row = (lane & 1) + (i & 2) + lane / 16 * 4;
        col = (i & 4) + (lane & 2) + (i & 1);
    }
};

// N elements of W bits into registers, the first in the lowest bits; `shift` moves a code inside its container.
template <class Map, int N, int W, int shift = 0, class Reg, class Code>
__device__ void gather(Reg *regs, const Code *x, int row_stride, int col_stride) {
    const int per = 8 * sizeof(Reg) / W;
#pragma unroll
    for (int r = 0; r < (N + per - 1) / per; r++) regs[r] = 0;
#pragma unroll
    for (int i = 0; i < N; i++) {
        int row, col;
        Map::place(threadIdx.x % 32, i, row, col);
        regs[i / per] |= Reg(x[row * row_stride + col * col_stride]) << (i % per * W + shift);
    }
}

template <class Map, int N, int W, class Reg, class Code> __device__ void scatter(const Reg *regs, Code *x, int row_stride) {
    const int per = 8 * sizeof(Reg) / W;
#pragma unroll
    for (int i = 0; i < N; i++) {
        int row, col;
        Map::place(threadIdx.x % 32, i, row, col);
        x[row * row_stride + col] = Code(regs[i / per] >> (i % per * W));
    }
}

// Block scales: byte j of the register belongs to chunk j of k.
__device__ inline u32 scales(const u8 *x, int chunks, int stride) {
    u32 word = 0;
    for (int j = 0; j < chunks; j++) word |= u32(x[j * stride]) << (8 * j);
    return word;
}

// A `rows` x 32 byte operand of wgmma in shared memory, K-major, no swizzle: core matrices of 8 rows x 16 bytes, the two along k
// 128 bytes apart (leading dimension offset), the next eight rows 256 bytes on (stride offset).
template <int W, class Code> __device__ void stage(u8 *shared, const Code *x, int rows, int row_stride, int col_stride) {
    for (int i = threadIdx.x; i < rows * 32; i += blockDim.x) {
        int row = i / 32, byte = i % 32;
        u32 value = 0;
        if (W >= 8) {
            const int each = W < 8 ? 1 : W / 8;
            value = u32(u64(x[row * row_stride + byte / each * col_stride]) >> (byte % each * 8));
        } else {
            for (int j = 0; j < 8 / W; j++) value |= u32(x[row * row_stride + (byte * (8 / W) + j) * col_stride]) << (j * W);
        }
        shared[row / 8 * 256 + byte / 16 * 128 + row % 8 * 16 + byte % 16] = u8(value);
    }
}

__device__ inline u64 descriptor(const void *shared) {
    u64 address = __cvta_generic_to_shared(shared);
    return (address & 0x3FFFF) >> 4 | u64(128 >> 4) << 16 | u64(256 >> 4) << 32;
}

struct Form {
    const char *name;
    void (*kernel)(Operands, int);
    int threads, tiles_per_block;
};

extern "C" const Form forms[];

static char message[256];
static const char *failed(const char *what, cudaError_t error) {
    snprintf(message, sizeof message, "%s: %s", what, cudaGetErrorString(error));
    return message;
}

// Runs one form over all tiles; host[] is a b c scale_a scale_b d. d is copied in first, so that what a kernel leaves unwritten
// stays what the caller put there. Returns null, or why it failed.
extern "C" const char *run_form(int form, int tiles, void **host, const u64 *bytes) {
    void *device[6] = {};
    const char *why = nullptr;
    for (int i = 0; i < 6 && !why; i++) {
        if (!bytes[i]) continue;
        cudaError_t error = cudaMalloc(&device[i], bytes[i]);
        if (error == cudaSuccess) error = cudaMemcpy(device[i], host[i], bytes[i], cudaMemcpyHostToDevice);
        if (error != cudaSuccess) why = failed("copying operands to the GPU", error);
    }
    if (!why) {
        const Form &f = forms[form];
        Operands x = {device[0], device[1], device[2], device[3], device[4], device[5]};
        f.kernel<<<(tiles + f.tiles_per_block - 1) / f.tiles_per_block, f.threads>>>(x, tiles);
        cudaError_t error = cudaGetLastError();
        if (error == cudaSuccess) error = cudaDeviceSynchronize();
        if (error != cudaSuccess) why = failed(f.name, error);
    }
    if (!why) {
        cudaError_t error = cudaMemcpy(host[5], device[5], bytes[5], cudaMemcpyDeviceToHost);
        if (error != cudaSuccess) why = failed("copying the result back", error);
    }
    for (int i = 0; i < 6; i++)
        if (device[i]) cudaFree(device[i]);
    return why;
}

// Name and compute capability of device 0, and the CUDA versions of driver and runtime; null, or why there is none.
extern "C" const char *describe(char *name, int *numbers) {
    cudaDeviceProp p;
    cudaError_t error = cudaGetDeviceProperties(&p, 0);
    if (error != cudaSuccess) return failed("asking for the GPU", error);
    strncpy(name, p.name, 255);
    numbers[0] = p.major;
    numbers[1] = p.minor;
    cudaDriverGetVersion(&numbers[2]);
    cudaRuntimeGetVersion(&numbers[3]);
    return nullptr;
}

// The fragment maps, callable without a GPU: which = 0..2 for Grid (with r, e), Quad, QuadF32.
extern "C" void fragment_place(int which, int r, int e, int lane, int i, int *row, int *col) {
    if (which == 1) return Quad::place(lane, i, *row, *col);
    if (which == 2) return QuadF32::place(lane, i, *row, *col);
#define GRID(R, E) if (r == R && e == E) return Grid<R, E>::place(lane, i, *row, *col);
    GRID(1, 1) GRID(1, 2) GRID(1, 4) GRID(1, 8) GRID(1, 32) GRID(2, 1) GRID(2, 2) GRID(2, 4) GRID(2, 8) GRID(2, 32)
#undef GRID
}
