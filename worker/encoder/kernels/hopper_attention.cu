// Attention over flat tiles for compute capability 9.0: one warpgroup computes one tile for one head.
//
// Compiled at load with -DHEADS, -DKV_HEADS and -DBF16 (0 or 1); a head has 64 dimensions. Five thread
// blocks share a multiprocessor: while one waits for its scores, others compute softmax. The PTX manual describes
// the instructions and their operands under wgmma, cp.async.bulk.tensor and mbarrier.
// https://docs.nvidia.com/cuda/parallel-thread-execution/

typedef unsigned int u32;
typedef unsigned long long u64;

#define DIM 64
#define KEYS 64   // per block
#define STAGES 2  // blocks of keys and values that shared memory holds
#define ROW_BYTES (DIM * 2)
#define PART_BYTES (KEYS * ROW_BYTES)  // a block's keys, a block's values, or a tile's queries
#define ROW_WIDTH ((HEADS + 2 * KV_HEADS) * DIM)
#define RESCALE 8.0f  // powers of two by which a row's maximum may grow before its sums are rescaled
#define MINUS_INFINITY __int_as_float(0xff800000)

struct alignas(64) TensorMap { char opaque[128]; };

// Rows [first, first + rows) and the keys [low, high) that they attend to; 256 is added to `rows` if all attend to all.
struct alignas(16) Span { int first, low, high, rows; };

// A thread's part of the tile's 64 queries: of its warp's 16 rows, parts of row lane / 4 and of row lane / 4 + 8.
struct Rows {
    float out[DIM / 2];  // weighted sums of values, not yet divided by the total
    float top[2];        // the maximum that is subtracted from scores, in log2 units
    float total[2];      // this thread's part of the sum of weights
    float factor[2];     // scales `out` if `rescale`
    bool rescale;
    int start[2], width[2];
};

__device__ __forceinline__ u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }

__device__ __forceinline__ void barrier_init(u32 bar, u32 count) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(bar), "r"(count) : "memory");
}

__device__ __forceinline__ void barrier_arrive(u32 bar) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(bar) : "memory");
}

__device__ __forceinline__ void barrier_expect(u32 bar, u32 num_bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(bar), "r"(num_bytes) : "memory");
}

__device__ __forceinline__ void barrier_wait(u32 bar, u32 parity) {
    asm volatile(
        "{\n.reg .pred done;\nagain:\n"
        "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
        "@done bra over;\nbra again;\nover:\n}\n" ::"r"(bar), "r"(parity) : "memory");
}

// Copies a head's rows from `row` on, as many as the map's box has; rows beyond the last one are filled with zeros.
__device__ __forceinline__ void copy_rows(u32 to, const TensorMap* map, int column, int row, u32 bar) {
    asm volatile(
        "cp.async.bulk.tensor.2d.shared::cluster.global.tile.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];"
        ::"r"(to), "l"(map), "r"(column), "r"(row), "r"(bar) : "memory");
}

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

#if BF16
#define TYPES "f32.bf16.bf16"
#define PACK "cvt.rn.bf16x2.f32 %0, %1, %2;"
#else
#define TYPES "f32.f16.f16"
#define PACK "cvt.rn.f16x2.f32 %0, %1, %2;"
#endif

__device__ __forceinline__ u32 pack(float low, float high) {
    u32 out;
    asm(PACK : "=r"(out) : "f"(high), "f"(low));
    return out;
}

// The wgmma descriptor of rows of 128 bytes as the copy writes them: swizzled, in groups of 8 consecutive rows.
__device__ __forceinline__ u64 descriptor(u32 address) {
    return (u64)((address & 0x3FFFF) >> 4) | (u64)1 << 16 | (u64)(8 * ROW_BYTES >> 4) << 32 | (u64)1 << 62;
}

#define NAMES_8 "%0,%1,%2,%3,%4,%5,%6,%7"
#define NAMES_16 NAMES_8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define NAMES_24 NAMES_16 ",%16,%17,%18,%19,%20,%21,%22,%23"
#define NAMES_32 NAMES_24 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define FLOATS(a, i) \
    "+f"(a[i]), "+f"(a[i + 1]), "+f"(a[i + 2]), "+f"(a[i + 3]), "+f"(a[i + 4]), "+f"(a[i + 5]), "+f"(a[i + 6]), "+f"(a[i + 7])
#define FLOATS_8(a) FLOATS(a, 0)
#define FLOATS_16(a) FLOATS_8(a), FLOATS(a, 8)
#define FLOATS_24(a) FLOATS_16(a), FLOATS(a, 16)
#define FLOATS_32(a) FLOATS_24(a), FLOATS(a, 24)
#define WGMMA(n, names, tail) "wgmma.mma_async.sync.aligned.m64n" n "k16." TYPES " {" names "}, " tail ";\n"

// scores (64 x N) = (+= if `add`) 16 columns of the queries times 16 columns of N keys, both in shared memory.
template <int N>
__device__ __forceinline__ void multiply(float (&scores)[N / 2], u64 queries, u64 keys, int add) {
#define SCORE(n, count, a, b, p) \
    asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " p ", 0;\n" WGMMA(n, NAMES_##count, a "," b ", p, 1, 1, 0, 0") "}\n" \
                 : FLOATS_##count(scores) : "l"(queries), "l"(keys), "r"(add))
    if constexpr (N == 64) SCORE("64", 32, "%32", "%33", "%34");
    if constexpr (N == 48) SCORE("48", 24, "%24", "%25", "%26");
    if constexpr (N == 32) SCORE("32", 16, "%16", "%17", "%18");
    if constexpr (N == 16) SCORE("16", 8, "%8", "%9", "%10");
}

// out (64 x DIM) += 16 columns of weights, in registers, times 16 rows of values, in shared memory.
__device__ __forceinline__ void add_weighted_values(float (&out)[DIM / 2], const u32* weights, u64 values) {
    asm volatile(WGMMA("64", NAMES_32, "{%32,%33,%34,%35}, %36, 1, 1, 1, 1")
                 : FLOATS_32(out) : "r"(weights[0]), "r"(weights[1]), "r"(weights[2]), "r"(weights[3]), "l"(values));
}

__device__ __forceinline__ void wgmma_begin() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

__device__ __forceinline__ void wgmma_wait() { asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory"); }

// Stops the compiler from moving accesses to these registers past this line: it does not know that wgmma uses them.
template <int COUNT>
__device__ __forceinline__ void hold(float (&registers)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) asm volatile("" : "+f"(registers[i])::"memory");
}

template <int COUNT>
__device__ __forceinline__ void hold(u32 (&registers)[COUNT]) {
#pragma unroll
    for (int i = 0; i < COUNT; ++i) asm volatile("" : "+r"(registers[i])::"memory");
}

// The number of this thread's columns in a block (2 of every 8, starting at `first`) that precede column `end`.
__device__ __forceinline__ int columns_before(int end, int first) {
    const int clamped = min(max(end, 0), KEYS);
    return 2 * (clamped >> 3) + min(max((clamped & 7) - first, 0), 2);
}

// A bit mask of this thread's columns in [start, end).
__device__ __forceinline__ u32 columns_inside(int start, int end, int first) {
    return (1u << columns_before(end, first)) - (1u << columns_before(start, first));
}

// Masks keys of other texts: `inside` is a bit mask of columns for each of the two rows.
template <int N>
__device__ __forceinline__ void mask(float (&scores)[N / 2], const u32 (&inside)[2]) {
#pragma unroll
    for (int i = 0; i < N / 2; ++i)
        if (!(inside[i / 2 % 2] >> (i / 4 * 2 + i % 2) & 1)) scores[i] = MINUS_INFINITY;
}

// The same if all rows attend to exactly the first `keys` keys, with keys > N - 16.
template <int N>
__device__ __forceinline__ void mask_tail(float (&scores)[N / 2], int keys) {
    const int left = keys - 2 * (threadIdx.x & 3);
#pragma unroll
    for (int i = N / 2 - 8; i < N / 2; ++i)
        if (8 * (i / 4) + i % 2 >= left) scores[i] = MINUS_INFINITY;
}

// Online softmax: replaces scores by weights. A row's sums are rescaled only if its maximum grows by more than
// RESCALE, which is rare after the first block; rescaling one row leaves all other rows bit-identical.
template <int N>
__device__ __forceinline__ void weigh(float (&scores)[N / 2], Rows& rows, float scale) {
    float top[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float pairs[N / 8];  // a reduction tree: a chain of maxima would be serial
#pragma unroll
        for (int i = 0; i < N / 8; ++i) pairs[i] = fmaxf(scores[4 * i + 2 * r], scores[4 * i + 2 * r + 1]);
#pragma unroll
        for (int i = 2; i < N / 8; ++i) pairs[i % 2] = fmaxf(pairs[i % 2], pairs[i]);
        top[r] = fmaxf(pairs[0], pairs[1]);
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffff, top[r], 1));
#pragma unroll
    for (int r = 0; r < 2; ++r) top[r] = fmaxf(top[r], __shfl_xor_sync(0xffffffff, top[r], 2)) * scale;
    const bool grows[2] = {top[0] > rows.top[0] + RESCALE, top[1] > rows.top[1] + RESCALE};
    rows.rescale = __any_sync(0xffffffff, grows[0] || grows[1]);
    if (rows.rescale) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            rows.factor[r] = grows[r] ? exp2_fast(rows.top[r] - top[r]) : 1.0f;
            rows.top[r] = grows[r] ? top[r] : rows.top[r];
            rows.total[r] *= rows.factor[r];
        }
    }
#pragma unroll
    for (int i = 0; i < N / 8; ++i) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            float& low = scores[4 * i + 2 * r];
            float& high = scores[4 * i + 2 * r + 1];
            low = exp2_fast(fmaf(low, scale, -rows.top[r]));
            high = exp2_fast(fmaf(high, scale, -rows.top[r]));
            rows.total[r] += low + high;
        }
    }
}

// Processes the first N keys of the block that starts at key `key`; `keys` counts the keys from there to the last.
template <int N>
__device__ __forceinline__ void attend_block(
    Rows& rows, u32 queries, u32 block, int keys, bool one_text, int key, float scale) {
    float scores[N / 2];
#pragma unroll
    for (int i = 0; i < N / 2; ++i) scores[i] = 0.0f;
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < DIM / 16; ++i) multiply<N>(scores, descriptor(queries) + 2 * i, descriptor(block) + 2 * i, i > 0);
    wgmma_commit();
    u32 inside[2];
    if (!one_text) {
#pragma unroll
        for (int r = 0; r < 2; ++r) {
            const int start = rows.start[r] - key;
            inside[r] = columns_inside(start, start + rows.width[r], 2 * (threadIdx.x & 3));
        }
    }
    wgmma_wait();
    hold(scores);
    if (!one_text) mask<N>(scores, inside);
    else if (keys < KEYS) mask_tail<N>(scores, keys);
    weigh<N>(scores, rows, scale);
    if (rows.rescale) {
#pragma unroll
        for (int i = 0; i < DIM / 2; ++i) rows.out[i] *= rows.factor[i / 2 % 2];
    }
    u32 weights[N / 4];
#pragma unroll
    for (int i = 0; i < N / 4; ++i) weights[i] = pack(scores[2 * i], scores[2 * i + 1]);
    hold(rows.out);
    hold(weights);
    wgmma_begin();
#pragma unroll
    for (int i = 0; i < N / 16; ++i)
        add_weighted_values(rows.out, weights + 4 * i, descriptor(block + PART_BYTES + i * 16 * ROW_BYTES));
    wgmma_commit();
    wgmma_wait();
    hold(rows.out);
}

// Starts copying a block's keys and values; called by one thread. `wide` copies 64 rows, `narrow` 16.
__device__ __forceinline__ void copy_block(
    const TensorMap* wide, const TensorMap* narrow, u32 to, u32 bar, int column, int row, int keys) {
    const int strips = keys >= KEYS ? 1 : (keys + 15) / 16, rows = keys >= KEYS ? KEYS : 16;
    const TensorMap* map = keys >= KEYS ? wide : narrow;
    barrier_expect(bar, 2 * strips * rows * ROW_BYTES);
#pragma unroll 1
    for (int i = 0; i < strips; ++i) {
        copy_rows(to + i * rows * ROW_BYTES, map, column, row + i * rows, bar);
        copy_rows(to + PART_BYTES + i * rows * ROW_BYTES, map, column + KV_HEADS * DIM, row + i * rows, bar);
    }
}

// Divides each row's sums by its total and writes them in 16 bits.
__device__ __forceinline__ void store(const Rows& rows, unsigned short* out, int row, int last, int head) {
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        float total = rows.total[r];
        total += __shfl_xor_sync(0xffffffff, total, 1);
        total += __shfl_xor_sync(0xffffffff, total, 2);
        const float share = 1.0f / fmaxf(total, 1.0e-30f);
        u32* to = (u32*)(out + (long long)(row + 8 * r) * (HEADS * DIM) + head * DIM) + (threadIdx.x & 3);
        if (row + 8 * r > last) continue;
#pragma unroll
        for (int i = 0; i < DIM / 8; ++i)
            to[4 * i] = pack(rows.out[4 * i + 2 * r] * share, rows.out[4 * i + 2 * r + 1] * share);
    }
}

// out (T, HEADS * DIM) = softmax(q k' * scale / log2(e)) v within each text; both maps describe qkv (T, ROW_WIDTH).
extern "C" __global__ void __launch_bounds__(128, 5)
attend(const __grid_constant__ TensorMap wide, const __grid_constant__ TensorMap narrow, unsigned short* __restrict__ out,
       const Span* __restrict__ spans, const int* __restrict__ text_start, const int* __restrict__ text_end, float scale) {
    extern __shared__ __align__(1024) char memory[];  // queries, then the stages, each with keys before values
    __shared__ u64 barriers[2 * STAGES + 1];          // block arrived (per stage), block read (per stage), queries arrived
    const Span span = spans[blockIdx.y];
    if (span.rows == 0) return;
    const int head = blockIdx.x, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
    const u32 queries = shared_address(memory), stages = queries + PART_BYTES;
    const u32 arrived = shared_address(barriers), read = arrived + 8 * STAGES, queries_arrived = arrived + 16 * STAGES;
    const int num_keys = span.high - span.low, blocks = (num_keys + KEYS - 1) / KEYS;
    auto load = [&](int block) {
        const int stage = block % STAGES, column = (HEADS + head / (HEADS / KV_HEADS)) * DIM;
        copy_block(&wide, &narrow, stages + stage * 2 * PART_BYTES, arrived + 8 * stage, column, span.low + block * KEYS,
                   num_keys - block * KEYS);
    };
    if (threadIdx.x == 0) {
        for (int i = 0; i < STAGES; ++i) {
            barrier_init(arrived + 8 * i, 1);
            barrier_init(read + 8 * i, 4);
        }
        barrier_init(queries_arrived, 1);
        asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        barrier_expect(queries_arrived, PART_BYTES);
        copy_rows(queries, &wide, head * DIM, span.first, queries_arrived);
#pragma unroll 1
        for (int block = 0; block < min(STAGES, blocks); ++block) load(block);
    }
    const bool one_text = span.rows >= 256;
    const int row = span.first + 16 * warp + lane / 4, last = span.first + (span.rows & 255) - 1;
    Rows rows;
#pragma unroll
    for (int r = 0; r < 2; ++r) {
        if (!one_text) {
            const int own = min(row + 8 * r, last);
            rows.start[r] = text_start[own];
            rows.width[r] = text_end[own] - rows.start[r];
        }
        rows.top[r] = -1.0e30f;  // finite, so that a row without keys does not yield NaN
        rows.total[r] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < DIM / 2; ++i) rows.out[i] = 0.0f;
    __syncthreads();
    barrier_wait(queries_arrived, 0);
#pragma unroll 1
    for (int block = 0; block < blocks; ++block) {
        const int stage = block % STAGES, keys = num_keys - block * KEYS, key = span.low + block * KEYS;
        const u32 here = stages + stage * 2 * PART_BYTES;
        barrier_wait(arrived + 8 * stage, block / STAGES & 1);
        if (keys > 48) attend_block<64>(rows, queries, here, keys, one_text, key, scale);
        else if (keys > 32) attend_block<48>(rows, queries, here, keys, one_text, key, scale);
        else if (keys > 16) attend_block<32>(rows, queries, here, keys, one_text, key, scale);
        else attend_block<16>(rows, queries, here, keys, one_text, key, scale);
        if (block + STAGES < blocks) {
            // Once all four warps have read the block, one thread loads the next block into this stage.
            if (lane == 0) barrier_arrive(read + 8 * stage);
            if (threadIdx.x == 0) {
                barrier_wait(read + 8 * stage, block / STAGES & 1);
                load(block + STAGES);
            }
            __syncwarp();
        }
    }
    store(rows, out, row, last, head);
}
