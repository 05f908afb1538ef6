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

// --- tcgen05 (PTX ISA, "TensorCore 5th generation"): operands in shared memory, C, D and block scales in tensor memory --------

// As stage, for the 4- and 6-bit formats of kind::f8f6f4: sixteen elements packed at the front of each 16 bytes.
template <int W, class Code> __device__ void stage_padded(u8 *shared, const Code *x, int rows, int row_stride, int col_stride) {
    for (int i = threadIdx.x; i < rows * 32; i += blockDim.x) {
        int row = i / 32, byte = i % 32;
        u32 value = 0;
        for (int bit = 0; bit < 8; bit++) {
            int at = byte % 16 * 8 + bit, k = at / W;
            if (k < 16) value |= (u32(x[row * row_stride + (byte / 16 * 16 + k) * col_stride]) >> at % W & 1) << bit;
        }
        shared[row / 8 * 256 + byte / 16 * 128 + row % 8 * 16 + byte % 16] = u8(value);
    }
}

// The shared-memory descriptor differs from wgmma's in bits 46..48.
__device__ inline u64 tensor_descriptor(const void *shared) { return descriptor(shared) | u64(1) << 46; }

// Eight 32-bit columns of this warp's 32 lanes.
template <class = void> __device__ void tensor_store(u32 address, const u32 *r) {
    asm volatile("tcgen05.st.sync.aligned.32x32b.x8.b32 [%0], {%1, %2, %3, %4, %5, %6, %7, %8};" ::"r"(address), "r"(r[0]),
                 "r"(r[1]), "r"(r[2]), "r"(r[3]), "r"(r[4]), "r"(r[5]), "r"(r[6]), "r"(r[7]));
}
template <class = void> __device__ void tensor_load(u32 *r, u32 address) {
    asm volatile("tcgen05.ld.sync.aligned.32x32b.x8.b32 {%0, %1, %2, %3, %4, %5, %6, %7}, [%8];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]), "=r"(r[4]), "=r"(r[5]), "=r"(r[6]), "=r"(r[7])
                 : "r"(address));
    asm volatile("tcgen05.wait::ld.sync.aligned;" ::: "memory");
}

// One instruction over operands that lie in shared memory: 128 threads, one tile. M = 128: row i is lane i; M = 64: row 16 w + i
// is lane 32 w + i. A 16-bit accumulator takes the low half of its column. Scales, where `chunks` is not 0: lane l of column g
// holds those of row or column 32 g + l, a byte for each chunk of k, the same for each of the four warps.
template <int M, int N, int chunks, class Code, class CodeD, class Issue>
__device__ void tensor_tile(const u8 *sa, const u8 *sb, const Code *c, CodeD *d, const u8 *scale_a, const u8 *scale_b,
                            Issue issue) {
    const int columns = N + 16 <= 32 ? 32 : N + 16 <= 64 ? 64 : N + 16 <= 128 ? 128 : N + 16 <= 256 ? 256 : 512;
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, row = M == 128 ? threadIdx.x : 16 * warp + lane;
    const bool mine = M == 128 || lane < 16;
    __shared__ u32 base;
    __shared__ u64 done;
    u32 base_at = u32(__cvta_generic_to_shared(&base)), done_at = u32(__cvta_generic_to_shared(&done));
    if (threadIdx.x == 0)
        asm volatile("mbarrier.init.shared::cta.b64 [%0], 1; fence.mbarrier_init.release.cluster;" ::"r"(done_at) : "memory");
    if (warp == 0) {
        asm volatile("tcgen05.alloc.cta_group::1.sync.aligned.shared::cta.b32 [%0], %1;" ::"r"(base_at), "n"(columns)
                     : "memory");
        asm volatile("tcgen05.relinquish_alloc_permit.cta_group::1.sync.aligned;");
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory");
    __syncthreads();
    asm volatile("tcgen05.fence::after_thread_sync;" ::: "memory");
    u32 tensor = base, here = tensor + (u32(warp) << 21);
    u32 r[8];
    for (int column = 0; column < N; column += 8) {
        for (int i = 0; i < 8; i++) r[i] = mine ? u32(c[row * N + column + i]) : 0;
        tensor_store(here + column, r);
    }
    if (chunks) {                               // A in columns N .. N + 3, B in N + 8 .. N + 15
        for (int side = 0; side < 2; side++) {
            for (int g = 0; g < 8; g++) {
                int line = 32 * g + lane;
                r[g] = 0;
                if (line < (side ? N : M))
                    r[g] = side ? scales(scale_b + line, chunks, N) : scales(scale_a + line * chunks, chunks, 1);
            }
            tensor_store(here + N + 8 * side, r);
        }
    }
    asm volatile("tcgen05.wait::st.sync.aligned;" ::: "memory");
    asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory");
    __syncthreads();
    asm volatile("tcgen05.fence::after_thread_sync;" ::: "memory");
    if (threadIdx.x == 0) {
        issue(tensor, tensor_descriptor(sa), tensor_descriptor(sb), tensor + N, tensor + N + 8);
        asm volatile("tcgen05.commit.cta_group::1.mbarrier::arrive::one.shared::cluster.b64 [%0];" ::"r"(done_at) : "memory");
    }
    asm volatile("{ .reg .pred p; again: mbarrier.try_wait.parity.shared::cta.b64 p, [%0], 0; @!p bra again; }" ::"r"(done_at)
                 : "memory");
    asm volatile("tcgen05.fence::after_thread_sync;" ::: "memory");
    for (int column = 0; column < N; column += 8) {
        tensor_load(r, here + column);
        for (int i = 0; i < 8; i++)
            if (mine) d[row * N + column + i] = CodeD(r[i]);
    }
    asm volatile("tcgen05.fence::before_thread_sync;" ::: "memory");
    __syncthreads();
    if (warp == 0) asm volatile("tcgen05.dealloc.cta_group::1.sync.aligned.b32 %0, %1;" ::"r"(tensor), "n"(columns));
}

struct Form {
    const char *name;
    void (*kernel)(Operands, int);
    int threads, tiles_per_block;
};

extern "C" const Form forms[];

// --- conversions and functions: op_<i>(x, random, y) on codes, one u32 each -------------------------------------------------

// The finaliser of SplitMix64 (Steele, Lea, Flood 2014).
__device__ inline u64 mix(u64 z) {
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return z ^ z >> 31;
}

// operation_<i>: y of n groups of `lanes` codes. sweep_<i>: for each of the 256 top bytes of x the sum, modulo 2^64, of
// mix(x << 32 | y) over all x that have it; the order of a sum does not matter.
#define OPERATION(i, lanes)                                                                                    \
    __global__ void operation_##i(const u32 *x, const u32 *random, u32 *y, int n) {                            \
        int at = blockIdx.x * blockDim.x + threadIdx.x;                                                        \
        if (at < n) op_##i(x + at * lanes, random ? random[at] : 0, y + at * lanes);                           \
    }                                                                                                          \
    __global__ void sweep_##i(u64 *sums) {                                                                     \
        u64 sum = 0;                                                                                           \
        for (u32 low = blockIdx.x * blockDim.x + threadIdx.x; low < 1u << 24; low += gridDim.x * blockDim.x) { \
            u32 x[4] = {blockIdx.y << 24 | low}, y[4];                                                         \
            op_##i(x, 0, y);                                                                                   \
            sum += mix(u64(x[0]) << 32 | y[0]);                                                                \
        }                                                                                                      \
        atomicAdd(sums + blockIdx.y, sum);                                                                     \
    }

struct Operation {
    const char *name;
    void (*kernel)(const u32 *, const u32 *, u32 *, int);
    void (*sweep)(u64 *);
    int lanes;
};

extern "C" const Operation operations[];

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

// y of n groups of codes x, and random words or null; or, where y is null, the 256 sums of a sweep. Null, or why it failed.
extern "C" const char *run_operation(int number, int n, const u32 *x, const u32 *random, u32 *y, u64 *sums) {
    const Operation &op = operations[number];
    u64 codes = u64(n) * op.lanes * 4, bytes[3] = {y ? codes : 0, random ? u64(n) * 4 : 0, y ? codes : 256 * 8};
    const void *from[3] = {x, random, y ? (void *)y : (void *)sums};
    void *device[3] = {};
    cudaError_t error = cudaSuccess;
    for (int i = 0; i < 3 && error == cudaSuccess; i++) {
        if (!bytes[i]) continue;
        error = cudaMalloc(&device[i], bytes[i]);
        if (error == cudaSuccess) error = cudaMemcpy(device[i], from[i], bytes[i], cudaMemcpyHostToDevice);
    }
    if (error == cudaSuccess) {
        if (y)
            op.kernel<<<(n + 127) / 128, 128>>>((u32 *)device[0], (u32 *)device[1], (u32 *)device[2], n);
        else
            op.sweep<<<dim3(64, 256), 256>>>((u64 *)device[2]);
        error = cudaGetLastError();
    }
    if (error == cudaSuccess) error = cudaMemcpy((void *)from[2], device[2], bytes[2], cudaMemcpyDeviceToHost);
    for (int i = 0; i < 3; i++)
        if (device[i]) cudaFree(device[i]);
    return error == cudaSuccess ? nullptr : failed(op.name, error);
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
