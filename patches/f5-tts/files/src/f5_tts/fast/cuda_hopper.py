"""Instructions of Hopper (compute capability 9.0) that CUDA C++ has no words for, as functions:
barriers in shared memory, the copy engine, warpgroup matrix products.

A first part of the attention kernel's source (`cuda_attention_kernel`).
"""

from __future__ import annotations

from f5_tts.fast.cuda_parts import COMMON

# Columns of an output tile in registers: 64 of values and 8 of ones, 64 x 72 over 128 threads.
OUTPUT_FLOATS = 36


def instructions(keys: int) -> str:
    """CUDA source for tiles of `keys` keys, a multiple of 16."""
    scores = keys // 2
    text = _SOURCE
    for name, count in (("SCORES", scores), ("OUTPUT", OUTPUT_FLOATS)):
        text = text.replace(f"@{name}@", ", ".join(f"%{i}" for i in range(count)))
        text = text.replace(f"@{name}_IN@", ", ".join(f'"+f"(d[{i}])' for i in range(count)))
    for i in range(3):
        text = text.replace(f"@S{i}@", f"%{scores + i}")
    return text.replace("@KEYS@", str(keys))


_SOURCE = (
    COMMON
    + r"""
struct __align__(64) TensorMap { unsigned char bytes[128]; };

// Volatile: the exponentials stay where they are written, in front of the wait that follows them.
__device__ __forceinline__ float exp2_approx(float v) {
  float r;
  asm volatile("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}
__device__ __forceinline__ float reciprocal(float v) {
  float r;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}
__device__ __forceinline__ void bar_wait(u32 bar, u32 parity) {
  asm volatile(
      "{\n.reg .pred p;\nagain:\nmbarrier.try_wait.parity.shared::cta.b64 p, [%0], %1;\n"
      "@p bra done;\nbra again;\ndone:\n}" :: "r"(bar), "r"(parity) : "memory");
}
__device__ __forceinline__ void copy_tile(u32 to, const TensorMap *map, u32 bar, int column,
                                          int frame, int row) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes"
      " [%0], [%1, {%3, %4, %5}], [%2];"
      :: "r"(to), "l"(map), "r"(bar), "r"(column), "r"(frame), "r"(row) : "memory");
}
// Shared-memory matrix descriptors: 128-byte swizzle, groups of eight rows 1024 bytes apart. Their
// low word counts 16 bytes; its upper half is the way to the next 64 columns.
__device__ __forceinline__ u32 described(u32 at, u32 next) { return (at >> 4) + (next >> 4 << 16); }
__device__ __forceinline__ u64 descriptor(u32 low) { return (u64)0x40000040 << 32 | low; }
// Until at most LEFT groups are under way.
template <int LEFT, int COUNT>
__device__ __forceinline__ void wg_wait(float *d) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(LEFT) : "memory");
  // The results exist from here on: keeps the compiler from reading them earlier.
  #pragma unroll
  for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(d[i]) :: "memory");
}
// d (64 x KEYS over the warpgroup) = queries (64 x 16) * keys (KEYS x 16)^T [+ d], both shared.
__device__ __forceinline__ void wg_scores(float *d, u64 a, u64 b, int accumulate) {
  asm volatile(
      "{\n.reg .pred p;\nsetp.ne.b32 p, @S2@, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n@KEYS@k16.f32.f16.f16 {@SCORES@}, "
      "@S0@, @S1@, p, 1, 1, 0, 0;\n}"
      : @SCORES_IN@
      : "l"(a), "l"(b), "r"(accumulate));
}
// d += weights (64 x 16, registers) * values (16 keys x 64, and eight columns of ones; shared).
__device__ __forceinline__ void wg_values(float *d, const u32 *a, u64 b) {
  asm volatile(
      "wgmma.mma_async.sync.aligned.m64n72k16.f32.f16.f16 {@OUTPUT@}, "
      "{%36, %37, %38, %39}, %40, 1, 1, 1, 1;"
      : @OUTPUT_IN@
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
"""
)
