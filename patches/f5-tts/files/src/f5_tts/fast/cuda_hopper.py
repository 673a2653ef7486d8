"""Attention for Hopper (compute capability 9.0), on warpgroup matrix instructions.

The same contract as `attend` in `cuda_source`, twice its speed on that chip. Compiled for sm_90a;
on every other GPU the portable kernel runs. Compile-time constant: `HEADS`.
"""

_ACCUMULATORS = ", ".join(f"%{index}" for index in range(32))
_OPERANDS = ", ".join(f'"+f"(d[{index}])' for index in range(32))

# Queries and three stages of keys and values, 16 KiB each.
SHARED_BYTES = 4 * 16384

SOURCE = (
    r"""
typedef unsigned int u32;
typedef unsigned short u16;
typedef unsigned long long u64;

#define KEYS 64
#define QUERIES 128
#define TOKEN (3 * HEADS * 64)
#define TILE_BYTES (KEYS * 128)
#define STAGE_BYTES (2 * TILE_BYTES)
#define NEGATIVE __int_as_float(0xff800000)

__device__ __forceinline__ u32 pack(float a, float b) {
  u32 v;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(b), "f"(a));
  return v;
}
__device__ __forceinline__ float exp2_approx(float v) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}
// Rows of 128 bytes, 16-byte chunks exclusive-or row: the hardware's 128-byte swizzle.
__device__ __forceinline__ u32 swizzled(int row, int chunk) {
  return row * 128 + ((chunk ^ (row & 7)) << 4);
}
__device__ __forceinline__ void copy16_or_zero(u32 to, const void *from, bool real) {
  const int bytes = real ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(to), "l"(from), "r"(bytes));
}
// Shared-memory matrix descriptor: 128-byte swizzle, groups of eight rows 1024 bytes apart.
__device__ __forceinline__ u64 descriptor(u32 at) {
  return (u64)((at & 0x3ffff) >> 4) | ((u64)64 << 16) | ((u64)64 << 32) | ((u64)1 << 62);
}
__device__ __forceinline__ void wg_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wg_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most LEFT groups are under way.
template <int LEFT>
__device__ __forceinline__ void wg_wait(float *d) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(LEFT) : "memory");
  // The results exist from here on: keeps the compiler from reading them earlier.
  #pragma unroll
  for (int i = 0; i < 32; i++) asm volatile("" : "+f"(d[i]) :: "memory");
}
// Scores: d (64 x 64 over the warpgroup) = queries (64 x 16) * keys (64 x 16)^T [+ d], both shared.
// The queries stay in shared memory: held in registers over the loop, they are overwritten by the
// assembler of CUDA 13.0 after their first use.
__device__ __forceinline__ void wg_scores(float *d, u64 a, u64 b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"""
    + _ACCUMULATORS
    + r"""}, "
      "%32, %33, p, 1, 1, 0, 0;\n}"
      : """
    + _OPERANDS
    + r"""
      : "l"(a), "l"(b), "r"(accumulate));
}
// Output: d += weights (64 x 16, registers) * values (16 keys x 64, shared).
__device__ __forceinline__ void wg_values(float *d, const u32 *a, u64 b) {
  asm volatile(
      "{\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {"""
    + _ACCUMULATORS
    + r"""}, "
      "{%32, %33, %34, %35}, %36, 1, 1, 1, 1;\n}"
      : """
    + _OPERANDS
    + r"""
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

__device__ __forceinline__ void load_keys(u32 to, const u16 *keys, int first, int length) {
  #pragma unroll
  for (int i = 0; i < 2; i++) {
    const int piece = threadIdx.x + 256 * i, r = piece >> 3, chunk = piece & 7;
    const bool real = first + r < length;
    const u16 *from = keys + (size_t)(real ? first + r : 0) * TOKEN + chunk * 8;
    copy16_or_zero(to + swizzled(r, chunk), from, real);
    copy16_or_zero(to + TILE_BYTES + swizzled(r, chunk), from + HEADS * 64, real);
  }
}

__device__ __forceinline__ void wait_for_tile() {
  asm volatile("cp.async.wait_group 0;" ::: "memory");
  // Written by ordinary copies, read by the matrix unit: this orders the two.
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  __syncthreads();
}
// Scores to weights relative to the row's highest score so far, which moves by `shrink`.
__device__ __forceinline__ void softmax(float *s, float *top, float *sums, float *shrink) {
  const float factor = 0.125f * 1.44269504088896f;
  #pragma unroll
  for (int h = 0; h < 2; h++) {
    float high = fmaxf(s[2 * h], s[2 * h + 1]);
    #pragma unroll
    for (int j = 1; j < 8; j++) high = fmaxf(high, fmaxf(s[4 * j + 2 * h], s[4 * j + 2 * h + 1]));
    high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 1));
    high = fmaxf(high, __shfl_xor_sync(0xffffffffu, high, 2));
    high = fmaxf(high, top[h]);
    shrink[h] = exp2_approx((top[h] - high) * factor);
    top[h] = high;
    const float offset = high * factor;
    float sum = 0.f;
    #pragma unroll
    for (int j = 0; j < 8; j++)
      #pragma unroll
      for (int k = 0; k < 2; k++) {
        float &v = s[4 * j + 2 * h + k];
        v = exp2_approx(v * factor - offset);
        sum += v;
      }
    sums[h] = sums[h] * shrink[h] + sum;
  }
}
__device__ __forceinline__ void pack_weights(u32 (*p)[4], const float *s) {
  #pragma unroll
  for (int j = 0; j < 8; j++)
    #pragma unroll
    for (int h = 0; h < 2; h++)
      p[j >> 1][h + 2 * (j & 1)] = pack(s[4 * j + 2 * h], s[4 * j + 2 * h + 1]);
}

// One block: 128 queries of one head of one row; two warpgroups of 64 queries share the keys.
extern "C" __global__ void __launch_bounds__(256, 2)
attend_hopper(const u16 *qkv, const int *lengths, u16 *out, int frames) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const int head = blockIdx.y, row = blockIdx.z, first = blockIdx.x * QUERIES;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int length = lengths[row];
  const u16 *queries = qkv + (size_t)row * frames * TOKEN + head * 64;
  const u16 *keys = queries + HEADS * 64;
  const int tiles = (length + KEYS - 1) / KEYS;
  const u32 base = (u32)__cvta_generic_to_shared(memory);
  const u32 ring = base + STAGE_BYTES;  // behind the queries: three stages of keys and values

  #pragma unroll
  for (int i = 0; i < 4; i++) {
    const int piece = threadIdx.x + 256 * i, r = piece >> 3, chunk = piece & 7;
    const bool real = first + r < frames;
    copy16_or_zero(base + swizzled(r, chunk),
                   queries + (size_t)(real ? first + r : 0) * TOKEN + chunk * 8, real);
  }
  load_keys(ring, keys, (tiles - 1) * KEYS, length);
  asm volatile("cp.async.commit_group;");
  const u32 mine = base + (warp >> 2) * 64 * 128;

  float o[32], s[32], sums[2] = {0.f, 0.f}, top[2] = {NEGATIVE, NEGATIVE};
  u32 p[4][4];
  #pragma unroll
  for (int i = 0; i < 32; i++) o[i] = s[i] = 0.f;

  // The last tile comes first: it alone may hold keys that do not count, and masking them here
  // keeps branches out of the loop, where they would stop the overlap.
  wait_for_tile();
  if (tiles > 1) load_keys(ring + STAGE_BYTES, keys, 0, length);
  asm volatile("cp.async.commit_group;");
  wg_begin();
  #pragma unroll
  for (int k = 0; k < 4; k++)
    wg_scores(s, descriptor(mine + 32 * k), descriptor(ring + 32 * k), k > 0);
  wg_commit();
  wg_wait<0>(s);
  const int left = length - (tiles - 1) * KEYS;
  #pragma unroll
  for (int j = 0; j < 8; j++)
    #pragma unroll
    for (int k = 0; k < 4; k++)
      if (8 * j + 2 * (lane & 3) + (k & 1) >= left) s[4 * j + k] = NEGATIVE;
  float shrink[2];
  softmax(s, top, sums, shrink);
  pack_weights(p, s);

  // Scores of a tile, and then its exponentials, while the tile before meets its values.
  for (int tile = 1; tile < tiles; tile++) {
    wait_for_tile();
    if (tile + 1 < tiles)
      load_keys(ring + ((tile + 1) % 3) * STAGE_BYTES, keys, tile * KEYS, length);
    asm volatile("cp.async.commit_group;");
    const u32 kbase = ring + (tile % 3) * STAGE_BYTES;
    const u32 vbase = ring + ((tile + 2) % 3) * STAGE_BYTES + TILE_BYTES;
    wg_begin();
    #pragma unroll
    for (int k = 0; k < 4; k++)
      wg_scores(s, descriptor(mine + 32 * k), descriptor(kbase + 32 * k), k > 0);
    wg_commit();
    #pragma unroll
    for (int k = 0; k < 4; k++) wg_values(o, p[k], descriptor(vbase + 2048 * k));
    wg_commit();
    wg_wait<1>(s);
    softmax(s, top, sums, shrink);
    // The vote also asks for the sums, which are never negative: so it comes after all the
    // exponentials, and the wait, which the assembler moves up to the last vote, after it.
    const bool moved = __any_sync(
        0xffffffffu, shrink[0] < 1.f || shrink[1] < 1.f || fminf(sums[0], sums[1]) < 0.f);
    wg_wait<0>(o);
    if (moved) {
      #pragma unroll
      for (int i = 0; i < 32; i++) o[i] *= shrink[(i >> 1) & 1];
    }
    pack_weights(p, s);
  }
  const u32 last = ring + ((tiles - 1) % 3) * STAGE_BYTES + TILE_BYTES;
  wg_begin();
  #pragma unroll
  for (int k = 0; k < 4; k++) wg_values(o, p[k], descriptor(last + 2048 * k));
  wg_commit();
  wg_wait<0>(o);
  #pragma unroll
  for (int h = 0; h < 2; h++) {
    float total = sums[h];
    total += __shfl_xor_sync(0xffffffffu, total, 1);
    total += __shfl_xor_sync(0xffffffffu, total, 2);
    const int frame = first + warp * 16 + 8 * h + (lane >> 2);
    if (frame >= frames) continue;
    const float inverse = 1.f / total;
    u16 *to = out + (((size_t)row * frames + frame) * HEADS + head) * 64 + 2 * (lane & 3);
    #pragma unroll
    for (int j = 0; j < 8; j++)
      *(u32 *)(to + 8 * j) = pack(o[4 * j + 2 * h] * inverse, o[4 * j + 2 * h + 1] * inverse);
  }
}
"""
)
