"""CUDA C++ of the ConvNeXt blocks, for the text encoder and the vocoder, on any chip.

A depthwise convolution with the LayerNorm behind it is one kernel, a block four frames; the
response norm of ConvNeXt-V2 is two. They are bound by memory, so there is nothing in them for one
chip alone: no shared pipeline, no matrix instruction, no dependent launch. They compute in fp32,
round once, and add in an order that only the frame decides, so a longer bucket gives the same bits.

Compile-time constants: `WIDE` (1: fp32, 0: fp16), `CHANNELS`, `HIDDEN` (channels of the response
norm), both multiples of 8. Every tensor's rows are 16-byte vectors of `PER` channels.
"""

from __future__ import annotations

from f5_tts.fast.cuda_halves import EIGHTS, HALVES

# Rows of `about`, which holds what a channel of `dw_norm` needs: taps, bias, norm, offset.
TAPS = 7
ABOUT = TAPS + 4
# Frames that a block of `dw_norm` and of `grn_scale` covers; vectors of one of `grn_energy`.
NORM_FRAMES = 4
SCALE_FRAMES = 8
ENERGY_VECTORS = 2

KERNELS = (
    EIGHTS
    + r"""
#if WIDE
#define PER 4
__device__ __forceinline__ void take(const uint4 v, float *f) {
  f[0] = __uint_as_float(v.x); f[1] = __uint_as_float(v.y);
  f[2] = __uint_as_float(v.z); f[3] = __uint_as_float(v.w);
}
__device__ __forceinline__ uint4 give(const float *f) {
  return make_uint4(__float_as_uint(f[0]), __float_as_uint(f[1]), __float_as_uint(f[2]),
                    __float_as_uint(f[3]));
}
#else
#define PER 8
__device__ __forceinline__ void take(const uint4 v, float *f) { unpack8(v, f); }
__device__ __forceinline__ uint4 give(const float *f) { return pack8(f); }
#endif
#define VECTORS (CHANNELS / PER)
#define HIDDEN_VECTORS (HIDDEN / PER)
#define EPS 1e-6f

// Whether a frame holds what the network sees: within its item's length and, where `tokens` are
// given, with a symbol of its own. lengths (items,), tokens (items, frames).
__device__ __forceinline__ bool kept(const long long *lengths, const long long *tokens, int item,
                                     int frame, int frames) {
  if (frame < 0 || frame >= frames || frame >= lengths[item]) return false;
  return !tokens || tokens[(size_t)item * frames + frame] > 0;
}

// x (rows, frames, CHANNELS) = table[symbol] + positions where kept, else 0. The rows behind the
// first `items` are spoken without text: all symbols 0. One thread a vector.
extern "C" __global__ void __launch_bounds__(256)
embed_text(const long long *tokens, const long long *lengths, const long long *masked,
           const uint4 *table, const uint4 *positions, uint4 *x, int symbols, int items, int rows,
           int frames) {
  const size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (size_t)rows * frames * VECTORS) return;
  const int vector = (int)(at % VECTORS), token = (int)(at / VECTORS);
  const int frame = token % frames, row = token / frames, item = row % items;
  if (!kept(lengths, masked, item, frame, frames)) { x[at] = make_uint4(0, 0, 0, 0); return; }
  long long symbol = row < items ? tokens[(size_t)item * frames + frame] : 0;
  if (symbol < 0 || symbol >= symbols) symbol = 0;
  float a[PER], b[PER];
  take(table[(size_t)symbol * VECTORS + vector], a);
  take(positions[(size_t)frame * VECTORS + vector], b);
  #pragma unroll
  for (int j = 0; j < PER; j++) a[j] += b[j];
  x[at] = give(a);
}

// x (rows, frames, CHANNELS), in place: frames that are not kept become 0. One thread a vector.
extern "C" __global__ void __launch_bounds__(256)
clear_frames(uint4 *x, const long long *lengths, const long long *masked, int items, int rows,
             int frames) {
  const size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= (size_t)rows * frames * VECTORS) return;
  const int token = (int)(at / VECTORS), frame = token % frames, item = token / frames % items;
  if (!kept(lengths, masked, item, frame, frames)) x[at] = make_uint4(0, 0, 0, 0);
}

// Four neighbouring channels, 16 or 8 bytes.
#if WIDE
typedef uint4 Quad;
__device__ __forceinline__ void spread(const Quad v, float *f) { take(v, f); }
__device__ __forceinline__ Quad gather(const float *f) { return give(f); }
#else
typedef uint2 Quad;
__device__ __forceinline__ void spread(const Quad v, float *f) {
  unpack(v.x, f[0], f[1]); unpack(v.y, f[2], f[3]);
}
__device__ __forceinline__ Quad gather(const float *f) {
  return make_uint2(pack(f[0], f[1]), pack(f[2], f[3]));
}
#endif
#define QUADS (CHANNELS / 4)
#define NORM_WARPS ((QUADS + 31) / 32)

// Sums of four values over a warp at once: lane l has that of v[l / 8]. Each of the four is added
// in the same order.
__device__ __forceinline__ float four_sums(const float *v, int lane) {
  const bool high = lane & 16, odd = lane & 8;
  const float a = (high ? v[2] : v[0]) + __shfl_xor_sync(0xffffffffu, high ? v[0] : v[2], 16);
  const float b = (high ? v[3] : v[1]) + __shfl_xor_sync(0xffffffffu, high ? v[1] : v[3], 16);
  float sum = (odd ? b : a) + __shfl_xor_sync(0xffffffffu, odd ? a : b, 8);
  #pragma unroll
  for (int d = 4; d > 0; d >>= 1) sum += __shfl_xor_sync(0xffffffffu, sum, d);
  return sum;
}
// The same over the block; `parts` is used once. Whole warps only.
__device__ __forceinline__ void block_sums(float *v, float (*parts)[4]) {
  const int lane = threadIdx.x & 31;
  const float mine = four_sums(v, lane);
  if ((lane & 7) == 0) parts[threadIdx.x >> 5][lane >> 3] = mine;
  __syncthreads();
  #pragma unroll
  for (int n = 0; n < 4; n++) {
    v[n] = parts[0][n];
    #pragma unroll
    for (int w = 1; w < NORM_WARPS; w++) v[n] += parts[w][n];
  }
}

// out = layer_norm(convolution of 7 frames, channel by channel, over x + offset). A block: four
// frames of one row, a thread four channels of them, so that a frame is read once and the taps'
// weights once, all before anything waits. Frames that are not kept count as 0, whatever they hold.
// about (11, CHANNELS): 7 taps, bias, the norm's weight and bias, offset. x, out (rows, frames,
// CHANNELS).
extern "C" __global__ void __launch_bounds__(32 * NORM_WARPS)
dw_norm(const Quad *x, const Quad *about, const long long *lengths, const long long *masked,
        Quad *out, int items, int frames) {
  __shared__ __align__(16) float sums[NORM_WARPS][4], squares[NORM_WARPS][4];
  const int lane = threadIdx.x & 31, first = 4 * blockIdx.x, row = blockIdx.y;
  const bool idle = threadIdx.x >= QUADS;
  const int at = idle ? 0 : threadIdx.x;
  const Quad *mine = x + (size_t)row * frames * QUADS + at;
  Quad seen[10], taps[7];
  #pragma unroll
  for (int r = 0; r < 10; r++) {
    // A frame that is there in memory, so that loads need not wait for what counts.
    const int n = first + r - 3;
    seen[r] = mine[(size_t)(n < 0 ? 0 : n < frames ? n : frames - 1) * QUADS];
  }
  #pragma unroll
  for (int t = 0; t < 7; t++) taps[t] = about[t * QUADS + at];
  float bias[4], offset[4];
  spread(about[7 * QUADS + at], bias);
  spread(about[10 * QUADS + at], offset);
  // A lane a frame, so that their symbols come with one load.
  const u32 there = __ballot_sync(
      0xffffffffu, lane < 10 && kept(lengths, masked, row % items, first + lane - 3, frames));
  // How a frame is added up must not depend on its place here: each step is spelled out.
  float f[4][4];
  #pragma unroll
  for (int n = 0; n < 4; n++)
    #pragma unroll
    for (int j = 0; j < 4; j++) f[n][j] = bias[j];
  float w[7][4];
  #pragma unroll
  for (int t = 0; t < 7; t++) spread(taps[t], w[t]);
  #pragma unroll
  for (int r = 0; r < 10; r++) {
    float v[4];
    spread(seen[r], v);
    #pragma unroll
    for (int j = 0; j < 4; j++) v[j] = there >> r & 1 ? v[j] + offset[j] : 0.f;
    #pragma unroll
    for (int n = 0; n < 4; n++) {
      if (r < n || r > n + 6) continue;
      #pragma unroll
      for (int j = 0; j < 4; j++) f[n][j] = fmaf(w[r - n][j], v[j], f[n][j]);
    }
  }
  // On their way while the block adds up.
  const Quad scale = about[8 * QUADS + at], shift = about[9 * QUADS + at];
  float mean[4], inverse[4];
  #pragma unroll
  for (int n = 0; n < 4; n++) mean[n] = idle ? 0.f : (f[n][0] + f[n][1]) + (f[n][2] + f[n][3]);
  block_sums(mean, sums);
  #pragma unroll
  for (int n = 0; n < 4; n++) {
    float square = 0.f;
    #pragma unroll
    for (int j = 0; j < 4; j++) {
      f[n][j] = fmaf(mean[n], -1.f / CHANNELS, f[n][j]);
      square = fmaf(f[n][j], f[n][j], square);
    }
    inverse[n] = idle ? 0.f : square;
  }
  block_sums(inverse, squares);
  if (idle) return;
  float weight[4];
  spread(scale, weight);
  spread(shift, bias);
  #pragma unroll
  for (int n = 0; n < 4; n++) {
    if (first + n >= frames) return;
    inverse[n] = rsqrtf(fmaf(inverse[n], 1.f / CHANNELS, EPS));
    #pragma unroll
    for (int j = 0; j < 4; j++) f[n][j] = fmaf(f[n][j] * inverse[n], weight[j], bias[j]);
    out[((size_t)row * frames + first + n) * QUADS + at] = gather(f[n]);
  }
}

#if HIDDEN
// energy (rows, HIDDEN) fp32 = norm of every channel of h (rows, frames, HIDDEN) over the frames
// within the row's length. A block: 2 vectors of one row, 256 frames at a time.
extern "C" __global__ void __launch_bounds__(512)
grn_energy(const uint4 *h, const long long *lengths, float *energy, int items, int frames) {
  __shared__ float parts[16][2 * PER];
  const int row = blockIdx.y, lane = threadIdx.x & 31, warp = threadIdx.x >> 5;
  const int vector = blockIdx.x * 2 + (threadIdx.x & 1);
  const long long valid = lengths[row % items];
  const int length = valid < frames ? (int)valid : frames;
  const uint4 *source = h + (size_t)row * frames * HIDDEN_VECTORS + vector;
  float sum[PER];
  #pragma unroll
  for (int j = 0; j < PER; j++) sum[j] = 0.f;
  if (vector < HIDDEN_VECTORS) {
    #pragma unroll 4
    for (int n = threadIdx.x >> 1; n < length; n += 256) {
      float v[PER];
      take(source[(size_t)n * HIDDEN_VECTORS], v);
      #pragma unroll
      for (int j = 0; j < PER; j++) sum[j] += v[j] * v[j];
    }
  }
  // Lanes of the same vector: those whose number differs in all bits but the lowest.
  #pragma unroll
  for (int j = 0; j < PER; j++) {
    #pragma unroll
    for (int d = 16; d > 1; d >>= 1) sum[j] += __shfl_xor_sync(0xffffffffu, sum[j], d);
    if (lane < 2) parts[warp][lane * PER + j] = sum[j];
  }
  __syncthreads();
  const int channel = blockIdx.x * (2 * PER) + threadIdx.x;
  if (threadIdx.x < 2 * PER && channel < HIDDEN) {
    float total = 0.f;
    #pragma unroll
    for (int w = 0; w < 16; w++) total += parts[w][threadIdx.x];
    energy[(size_t)row * HIDDEN + channel] = sqrtf(total);
  }
}

// h (rows, frames, HIDDEN), in place: beta + v * (1 + gamma * energy / (mean of energies + eps)),
// v being h within the row's length and 0 outside. grn (2, HIDDEN): gamma, beta. A block: 8 frames.
extern "C" __global__ void __launch_bounds__(256)
grn_scale(uint4 *h, const uint4 *grn, const float *energy, const long long *lengths, int items,
          int frames) {
  __shared__ float scale[HIDDEN], shift[HIDDEN], parts[8];
  const int row = blockIdx.y, first = blockIdx.x * 8;
  const float *mine = energy + (size_t)row * HIDDEN;
  float sum = 0.f;
  for (int c = threadIdx.x; c < HIDDEN; c += 256) sum += mine[c];
  sum = warp_sum(sum);
  if ((threadIdx.x & 31) == 0) parts[threadIdx.x >> 5] = sum;
  __syncthreads();
  float total = 0.f;
  #pragma unroll
  for (int w = 0; w < 8; w++) total += parts[w];
  const float response = 1.f / (total * (1.f / HIDDEN) + EPS);
  for (int vector = threadIdx.x; vector < HIDDEN_VECTORS; vector += 256) {
    float gamma[PER], beta[PER];
    take(grn[vector], gamma);
    take(grn[HIDDEN_VECTORS + vector], beta);
    #pragma unroll
    for (int j = 0; j < PER; j++) {
      scale[vector * PER + j] = 1.f + gamma[j] * (mine[vector * PER + j] * response);
      shift[vector * PER + j] = beta[j];
    }
  }
  __syncthreads();
  const long long length = lengths[row % items];
  const int left = frames - first < 8 ? frames - first : 8;
  uint4 *to = h + ((size_t)row * frames + first) * HIDDEN_VECTORS;
  for (int piece = threadIdx.x; piece < left * HIDDEN_VECTORS; piece += 256) {
    const int vector = piece % HIDDEN_VECTORS;
    const bool inside = first + piece / HIDDEN_VECTORS < length;
    float v[PER];
    take(to[piece], v);
    #pragma unroll
    for (int j = 0; j < PER; j++)
      v[j] = shift[vector * PER + j] + (inside ? v[j] : 0.f) * scale[vector * PER + j];
    to[piece] = give(v);
  }
}
#endif
"""
)

SOURCE = HALVES + KERNELS
