"""CUDA C++ of the position convolution for Hopper, on warpgroup matrix instructions.

The same contract as `cuda_conv`. A tap is a product of its 64 x 64 weights with the group's frames,
moved by one row of shared memory from tap to tap; so the frames are fetched once. Compile-time
constants: `BN` frames of a tile, `STAGES` taps under way, `SECOND` (0: zero past the row's length;
1: added to what `out` holds).
"""

from __future__ import annotations

from f5_tts.fast.cuda_parts import HELPERS, multiply

TAPS = 31
THREADS = 160


def source(frames: int) -> str:
    """The kernel for tiles of `frames` frames."""
    return HELPERS + multiply(frames) + _KERNEL


def shared_bytes(frames: int, stages: int) -> int:
    """Dynamic shared memory of a block: frames with their surroundings, weights, result."""
    around = -(-(frames + TAPS - 1) // 8) * 8
    return around * 128 + stages * 8192 + frames * 128 + 256


_KERNEL = r"""
#define TAPS 31
#define AROUND ((BN + TAPS - 1 + 7) / 8 * 8)

__device__ __forceinline__ void fetch3(u32 to, const Map &map, int channel, int frame, int row,
                                       u32 bar) {
  asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
               "[%0], [%1, {%2, %3, %4}], [%5];"
               :: "r"(to), "l"(&map), "r"(channel), "r"(frame), "r"(row), "r"(bar) : "memory");
}
__device__ __forceinline__ float mish(float v) {
  const float u = __expf(fminf(v, 20.f));
  const float n = u * (u + 2.f);
  return v * __fdividef(n, n + 2.f);
}

// x, out (rows, frames, 1024) as maps; weights (16 groups * 31 taps * 64 out, 64 in).
extern "C" __global__ void __launch_bounds__(160)
conv_hopper(const __grid_constant__ Map x, const __grid_constant__ Map weights,
            const __grid_constant__ Map out, const u16 *bias, const int *lengths) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const u32 base = (u32)__cvta_generic_to_shared(memory);
  const u32 ring = base + AROUND * 128, staging = ring + STAGES * 8192;
  const u32 full = staging + BN * 128, empty = full + 8 * STAGES, loaded = full + 16 * STAGES;
  const u32 residual = loaded + 8;
  const int first = blockIdx.x * BN, group = blockIdx.y, row = blockIdx.z;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  if (threadIdx.x == 0) {
    see(x); see(weights); see(out);
    #pragma unroll
    for (int i = 0; i < STAGES; i++) { bar_init(full + 8 * i, 1); bar_init(empty + 8 * i, 1); }
    bar_init(loaded, 1);
    bar_init(residual, 1);
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  }
  __syncthreads();
  let_next_start();

  if (warp == 4) {
    if (lane == 0) {
      for (int tap = 0; tap < TAPS; tap++) {
        const int stage = tap % STAGES;
        if (tap == STAGES) {
          wait_for_previous();
          bar_expect(loaded, AROUND * 128);
          // What lies outside the row comes as zeros.
          fetch3(base, x, 64 * group, first - TAPS / 2, row, loaded);
#if SECOND
          bar_expect(residual, BN * 128);
          fetch3(staging, out, 64 * group, first, row, residual);
#endif
        }
        if (tap >= STAGES) bar_wait(empty + 8 * stage, (tap / STAGES - 1) & 1);
        bar_expect(full + 8 * stage, 8192);
        fetch(ring + stage * 8192, weights, 0, (group * TAPS + tap) * 64, full + 8 * stage);
      }
    }
    return;
  }

  float d[BN / 2];
  const int channel = 64 * group + 16 * warp + (lane >> 2);
  const float bias_0 = widen(bias[channel]), bias_1 = widen(bias[channel + 8]);
  wait_for_previous();
  const int length = lengths[row];
  bar_wait(loaded, 0);
  for (int tap = 0; tap < TAPS; tap++) {
    const int stage = tap % STAGES;
    bar_wait(full + 8 * stage, (tap / STAGES) & 1);
    const u64 a = descriptor(ring + stage * 8192);
    // The swizzle is a matter of the address, so a tile may begin at any row of it.
    const u64 b = descriptor(base + tap * 128);
    wg_begin();
    #pragma unroll
    for (int s = 0; s < 4; s++) wg_mma(d, a + 2 * s, b + 2 * s, tap | s);
    wg_commit();
    wg_wait<1>();
    if (tap > 0 && threadIdx.x == 0 && tap - 1 + STAGES < TAPS)
      bar_arrive(empty + 8 * ((tap - 1) % STAGES));
  }
  wg_wait<0>();
  exists<BN / 2>(d);
#if SECOND
  bar_wait(residual, 0);
#endif
  const u32 place = (8 * (lane >> 4) + (lane & 7)) * 128 +
                    (((2 * warp + ((lane >> 3) & 1)) ^ (lane & 7)) << 4);
  #pragma unroll
  for (int j = 0; j < BN / 8; j += 2) {
    const bool two = j + 1 < BN / 8;
    const u32 at = staging + j * 1024 + place;
    u32 r[4] = {0, 0, 0, 0}, y[4] = {0, 0, 0, 0};
#if SECOND
    if (two) ldmatrix4t(y, at); else ldmatrix2t(y, at);
#endif
    #pragma unroll
    for (int h = 0; h < (two ? 2 : 1); h++) {
      const float *v = d + 4 * (j + h);
      float a0 = mish(v[0] + bias_0), a1 = mish(v[1] + bias_0);
      float b0 = mish(v[2] + bias_1), b1 = mish(v[3] + bias_1);
#if SECOND
      float x0, x1, y0, y1;
      unpack(y[2 * h], x0, x1);
      unpack(y[2 * h + 1], y0, y1);
      a0 += x0; a1 += x1; b0 += y0; b1 += y1;
#else
      const int frame = first + 8 * (j + h) + 2 * (lane & 3);
      if (frame >= length) a0 = b0 = 0.f;
      if (frame + 1 >= length) a1 = b1 = 0.f;
#endif
      r[2 * h] = pack(a0, a1);
      r[2 * h + 1] = pack(b0, b1);
    }
    if (two) stmatrix4t(at, r); else stmatrix2t(at, r);
  }
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  meet(1, 128);
  if (threadIdx.x == 0) {
    asm volatile("cp.async.bulk.tensor.3d.global.shared::cta.bulk_group [%0, {%1, %2, %3}], [%4];"
                 :: "l"(&out), "r"(64 * group), "r"(first), "r"(row), "r"(staging) : "memory");
    asm volatile("cp.async.bulk.commit_group;" ::: "memory");
    stores_read<0>();
  }
}
"""
