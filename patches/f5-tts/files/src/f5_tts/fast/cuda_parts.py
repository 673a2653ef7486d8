"""CUDA C++ that the Hopper kernels of this package share, without any header.

Barriers, the copy engine, transposing moves between registers and shared memory, warpgroup matrix
instructions, programmatic dependent launch.
"""

from __future__ import annotations

from f5_tts.fast.cuda_halves import HALVES


def multiply(columns: int) -> str:
    """`wg_mma`: d (64 x columns over the warpgroup) += a (64 x 16) * b (columns x 16)^T."""
    count = columns // 2
    places = ", ".join(f"%{index}" for index in range(count))
    operands = ", ".join(f'"+f"(d[{index}])' for index in range(count))
    return (
        "__device__ __forceinline__ void wg_mma(float *d, u64 a, u64 b, int accumulate) {\n"
        f'  asm volatile("{{\\n.reg .pred p;\\nsetp.ne.b32 p, %{count + 2}, 0;\\n"\n'
        f'    "wgmma.mma_async.sync.aligned.m64n{columns}k16.f32.f16.f16 {{{places}}}, "\n'
        f'    "%{count}, %{count + 1}, p, 1, 1, 0, 0;\\n}}"\n'
        f'    : {operands} : "l"(a), "l"(b), "r"(accumulate));\n}}\n'
    )


COMMON = (
    HALVES
    + r"""
typedef unsigned short u16;
typedef unsigned long long u64;

// n / by for n below a million: a division of integers takes ten times as long, and what it is
// needed for is in the way of a block's first copy.
__device__ __forceinline__ int quotient(int n, int by) {
  return (int)__fdividef((float)n + 0.5f, (float)by);
}
// The whole block meets before it works, but the warp that made what the others wait for goes on.
__device__ __forceinline__ void meet_first(bool waits, int threads) {
  if (waits) asm volatile("bar.sync 7, %0;" :: "r"(threads) : "memory");
  else asm volatile("bar.arrive 7, %0;" :: "r"(threads) : "memory");
}
__device__ __forceinline__ void bar_init(u32 bar, int count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(bar), "r"(count));
}
__device__ __forceinline__ void bar_expect(u32 bar, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
               :: "r"(bar), "r"(bytes) : "memory");
}
__device__ __forceinline__ void bar_arrive(u32 bar) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" :: "r"(bar) : "memory");
}
__device__ __forceinline__ void wg_begin() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void wg_commit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
"""
)
"""What the attention kernel (`cuda_hopper`) is built on too."""

HELPERS = (
    COMMON
    + r"""
struct __align__(64) Map { u64 words[16]; };

__device__ __forceinline__ float widen(u16 v) {
  float f;
  asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(v));
  return f;
}
__device__ __forceinline__ void bar_arrive_at(u32 bar, u32 rank) {
  asm volatile("{\n.reg .b32 there;\nmapa.shared::cluster.u32 there, %0, %1;\n"
               "mbarrier.arrive.shared::cluster.b64 _, [there];\n}" :: "r"(bar), "r"(rank)
               : "memory");
}
__device__ __forceinline__ void bar_wait(u32 bar, u32 parity) {
  u32 done;
  do {
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
                 "selp.u32 %0, 1, 0, p;\n}" : "=r"(done) : "r"(bar), "r"(parity) : "memory");
  } while (!done);
}
__device__ __forceinline__ void fetch(u32 to, const Map &map, int column, int row, u32 bar) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%2, %3}], [%4];"
               :: "r"(to), "l"(&map), "r"(column), "r"(row), "r"(bar) : "memory");
}
// Brings a map near, so that its first use does not wait for it.
__device__ __forceinline__ void see(const Map &map) {
  asm volatile("prefetch.tensormap [%0];" :: "l"(&map) : "memory");
}
// The same to the same place in every block of the cluster that `mask` names.
__device__ __forceinline__ void fetch_for(u32 to, const Map &map, int column, int row, u32 bar,
                                          int mask) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
               ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;"
               :: "r"(to), "l"(&map), "r"(column), "r"(row), "r"(bar), "h"((u16)mask) : "memory");
}
__device__ __forceinline__ void store(const Map &map, int column, int row, u32 from) {
  asm volatile("cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%0, {%1, %2}], [%3];"
               :: "l"(&map), "r"(column), "r"(row), "r"(from) : "memory");
  asm volatile("cp.async.bulk.commit_group;" ::: "memory");
}
template <int LEFT> __device__ __forceinline__ void stores_read() {
  asm volatile("cp.async.bulk.wait_group.read %0;" :: "n"(LEFT) : "memory");
}
__device__ __forceinline__ void meet(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" :: "r"(barrier), "r"(threads) : "memory");
}
// Programmatic dependent launch: the next kernel may be set up; what came before is complete.
__device__ __forceinline__ void let_next_start() {
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
}
__device__ __forceinline__ void wait_for_previous() {
  asm volatile("griddepcontrol.wait;" ::: "memory");
}
// The four below are ordered among themselves, and by the meetings around them.
__device__ __forceinline__ void ldmatrix4t(u32 *r, u32 at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}
__device__ __forceinline__ void stmatrix4t(u32 at, const u32 *r) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1,%2,%3,%4};"
               :: "r"(at), "r"(r[0]), "r"(r[1]), "r"(r[2]), "r"(r[3]));
}
__device__ __forceinline__ void load8(float *f, u32 from) {
  u32 r[4];
  asm volatile("ld.shared.v4.b32 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(from));
  #pragma unroll
  for (int i = 0; i < 4; i++) unpack(r[i], f[2 * i], f[2 * i + 1]);
}
__device__ __forceinline__ void ldmatrix2t(u32 *r, u32 at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x2.trans.shared.b16 {%0,%1}, [%2];"
               : "=r"(r[0]), "=r"(r[1]) : "r"(at));
}
__device__ __forceinline__ void stmatrix2t(u32 at, const u32 *r) {
  asm volatile("stmatrix.sync.aligned.m8n8.x2.trans.shared.b16 [%0], {%1,%2};"
               :: "r"(at), "r"(r[0]), "r"(r[1]));
}
// Shared-memory matrix descriptor: 128-byte swizzle, groups of eight rows 1024 bytes apart.
__device__ __forceinline__ u64 descriptor(u32 at) {
  return (u64)((at & 0x3ffff) >> 4) | ((u64)64 << 16) | ((u64)64 << 32) | ((u64)1 << 62);
}
template <int LEFT> __device__ __forceinline__ void wg_wait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(LEFT) : "memory");
}
// Results exist from here on: keeps the compiler from reading them earlier, in front of the wait.
template <int COUNT> __device__ __forceinline__ void exists(float *d) {
  #pragma unroll
  for (int i = 0; i < COUNT; i++) asm volatile("" : "+f"(d[i]) :: "memory");
}
"""
)
