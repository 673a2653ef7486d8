"""CUDA C++ that the kernels with half precision share, without any header.

`EIGHTS` has no inline assembly of its own.
"""

from __future__ import annotations

HALVES = r"""
typedef unsigned int u32;

__device__ __forceinline__ void unpack(u32 v, float &a, float &b) {
  asm("{.reg .f16 l, h; mov.b32 {l, h}, %2; cvt.f32.f16 %0, l; cvt.f32.f16 %1, h;}"
      : "=f"(a), "=f"(b) : "r"(v));
}
__device__ __forceinline__ u32 pack(float a, float b) {
  u32 v;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(v) : "f"(b), "f"(a));
  return v;
}
"""
"""Two halves in a word."""

EIGHTS = r"""
__device__ __forceinline__ void unpack8(uint4 v, float *f) {
  unpack(v.x, f[0], f[1]); unpack(v.y, f[2], f[3]);
  unpack(v.z, f[4], f[5]); unpack(v.w, f[6], f[7]);
}
__device__ __forceinline__ uint4 pack8(const float *f) {
  return make_uint4(pack(f[0], f[1]), pack(f[2], f[3]), pack(f[4], f[5]), pack(f[6], f[7]));
}
__device__ __forceinline__ float warp_sum(float v) {
  #pragma unroll
  for (int d = 16; d > 0; d >>= 1) v += __shfl_xor_sync(0xffffffffu, v, d);
  return v;
}
"""
"""Eight in a vector, and sums over a warp."""
