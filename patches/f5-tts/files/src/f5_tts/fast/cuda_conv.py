"""CUDA C++ of the position convolution, a part of `cuda_source` (which has its helpers)."""

CONVOLUTION = r"""
// Grouped convolution, 16 groups of 64 channels, 31 taps, as an implicit GEMM on tensor cores.
// One block: 128 frames x 64 output channels of one group. x, out: (rows, frames, DIM).
// w: (16, 31, 64 out, 64 in). out = mish(conv(x) + bias), zero past the row's length if CLEAR,
// plus x itself if RESIDUAL.
#if DIM == 1024
#define TAPS 31
#define TILE 128
#define SPAN (TILE + TAPS - 1)
#define STAGES 3

__device__ __forceinline__ float mish(float v) {
  const float u = __expf(fminf(v, 20.f));
  const float n = u * (u + 2.f);
  return v * (n / (n + 2.f));
}
template <bool CLEAR, bool RESIDUAL>
__device__ __forceinline__ void conv_tile(const u16 *x, const u16 *w, const u16 *bias,
                                          const int *lengths, u16 *out, int frames) {
  __shared__ __align__(128) unsigned char xs[SPAN * 128];
  __shared__ __align__(128) unsigned char ws[STAGES][64 * 128];
  const int group = blockIdx.y, row = blockIdx.z, first = blockIdx.x * TILE;
  const int thread = threadIdx.x, warp = thread >> 5, lane = thread & 31;
  const u16 *source = x + (size_t)row * frames * DIM + group * 64;
  const u16 *taps = w + (size_t)group * TAPS * 4096;

  #pragma unroll
  for (int stage = 0; stage < STAGES - 1; stage++) {
    #pragma unroll
    for (int i = 0; i < 4; i++) {
      const int piece = thread + 128 * i;
      copy16(shared_at(ws[stage]) + swizzled(piece >> 3, piece & 7),
             taps + stage * 4096 + piece * 8);
    }
    asm volatile("cp.async.commit_group;");
  }
  wait_for_previous();
  for (int piece = thread; piece < SPAN * 8; piece += 128) {
    const int r = piece >> 3, chunk = piece & 7, frame = first + r - TAPS / 2;
    uint4 v = make_uint4(0, 0, 0, 0);
    if (frame >= 0 && frame < frames)
      v = *(const uint4 *)(source + (size_t)frame * DIM + chunk * 8);
    *(uint4 *)(xs + swizzled(r, chunk)) = v;
  }

  float acc[2][8][4];
  #pragma unroll
  for (int i = 0; i < 2; i++)
    #pragma unroll
    for (int j = 0; j < 8; j++)
      #pragma unroll
      for (int k = 0; k < 4; k++) acc[i][j][k] = 0.f;

  const u32 xbase = shared_at(xs);
  const int arow = warp * 32 + (lane & 15), achunk = lane >> 4;
  const int brow = (lane & 7) + ((lane >> 4) << 3), bchunk = (lane >> 3) & 1;
  for (int tap = 0; tap < TAPS; tap++) {
    asm volatile("cp.async.wait_group %0;" :: "n"(STAGES - 2));
    __syncthreads();
    const int next = tap + STAGES - 1;
    if (next < TAPS) {
      #pragma unroll
      for (int i = 0; i < 4; i++) {
        const int piece = thread + 128 * i;
        copy16(shared_at(ws[next % STAGES]) + swizzled(piece >> 3, piece & 7),
               taps + next * 4096 + piece * 8);
      }
    }
    asm volatile("cp.async.commit_group;");
    const u32 wbase = shared_at(ws[tap % STAGES]);
    #pragma unroll
    for (int k = 0; k < 4; k++) {
      u32 a[2][4], b[4][4];
      #pragma unroll
      for (int i = 0; i < 2; i++)
        ldmatrix4(a[i], xbase + swizzled(arow + tap + 16 * i, 2 * k + achunk));
      #pragma unroll
      for (int j = 0; j < 4; j++)
        ldmatrix4(b[j], wbase + swizzled(brow + 16 * j, 2 * k + bchunk));
      #pragma unroll
      for (int i = 0; i < 2; i++)
        #pragma unroll
        for (int j = 0; j < 4; j++) {
          mma(acc[i][2 * j], a[i], b[j][0], b[j][1]);
          mma(acc[i][2 * j + 1], a[i], b[j][2], b[j][3]);
        }
    }
  }

  const int length = CLEAR ? lengths[row] : frames;
  #pragma unroll
  for (int i = 0; i < 2; i++)
    #pragma unroll
    for (int half = 0; half < 2; half++) {
      const int frame = first + warp * 32 + 16 * i + 8 * half + (lane >> 2);
      if (frame >= frames) continue;
      const bool inside = frame < length;
      #pragma unroll
      for (int j = 0; j < 8; j++) {
        const int channel = group * 64 + 8 * j + 2 * (lane & 3);
        const size_t at = ((size_t)row * frames + frame) * DIM + channel;
        float b0, b1;
        unpack(*(const u32 *)(bias + channel), b0, b1);
        float v0 = mish(acc[i][j][2 * half] + b0), v1 = mish(acc[i][j][2 * half + 1] + b1);
        if (RESIDUAL) {
          // The block's own input is convolved from `x`; the sum wants `residual`, passed as out.
          float r0, r1;
          unpack(*(const u32 *)(out + at), r0, r1);
          v0 += r0; v1 += r1;
        }
        if (!inside) { v0 = 0.f; v1 = 0.f; }
        *(u32 *)(out + at) = pack(v0, v1);
      }
    }
}

extern "C" __global__ void __launch_bounds__(128)
conv_first(const u16 *x, const u16 *w, const u16 *bias, const int *lengths, u16 *out, int frames) {
  conv_tile<true, false>(x, w, bias, lengths, out, frames);
}
extern "C" __global__ void __launch_bounds__(128)
conv_second(const u16 *x, const u16 *w, const u16 *bias, const int *lengths, u16 *out, int frames) {
  conv_tile<false, true>(x, w, bias, lengths, out, frames);
}
#endif
"""
