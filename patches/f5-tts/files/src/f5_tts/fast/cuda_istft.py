"""CUDA C++ of what surrounds the inverse FFT of the vocoder, in fp32, on any chip.

One kernel in front of it, one behind. Both are bound by memory; every value is computed from its
own frames in an order that nothing else decides, so a longer bucket gives the same bits.

Compile-time constants: `BINS` (of a frame, n_fft / 2 + 1), `HOP` (a quarter of n_fft, a multiple of
8), `TRIM` (samples cut off in front), `MOST` (the largest magnitude).
"""

from __future__ import annotations

# The least envelope that is divided by, as `vocoder.inverse_stft` has it, is spelled out below.
SOURCE = r"""
typedef unsigned int u32;

// bins (tokens, BINS) complex from head (tokens, 2, BINS): logarithm of the magnitude, and phase,
// which may be many turns. One thread a bin: rows of an odd number of floats have no wider loads.
extern "C" __global__ void __launch_bounds__(256)
head_bins(const float *head, float2 *bins, int tokens) {
  const u32 at = blockIdx.x * 256 + threadIdx.x;
  if (at >= (u32)tokens * BINS) return;
  const u32 token = at / BINS, bin = at % BINS;
  const float *from = head + (size_t)token * (2 * BINS) + bin;
  const float logarithm = from[0], phase = from[BINS];
  float sine, cosine;
  sincosf(phase, &sine, &cosine);
  const float size = expf(logarithm), magnitude = size > MOST ? (float)MOST : size;
  // The first and the last are real in a real signal; what is imaginary of them is dropped by some
  // transforms and not by others.
  const bool real = bin == 0 || bin == BINS - 1;
  bins[at] = make_float2(magnitude * cosine, real ? 0.f : magnitude * sine);
}

// out (items, 4 * vectors) = the windowed frames of pieces (items, frames, 4 * HOP), each HOP
// behind the one before, added and divided by n_fft and by the sum of their squared windows. Frames
// past an item's length count for nothing, whatever they hold. One thread four samples.
extern "C" __global__ void __launch_bounds__(256)
overlap_add(const float4 *pieces, const float4 *window, const long long *lengths, float4 *out,
            int frames, int vectors) {
  const int at = blockIdx.x * 256 + threadIdx.x, item = blockIdx.y;
  if (at >= vectors) return;
  const int place = at + TRIM / 4, quarter = place / (HOP / 4), inner = place % (HOP / 4);
  const float4 *mine = pieces + (size_t)item * frames * HOP + inner;
  float4 v[4], w[4];
  #pragma unroll
  for (int i = 0; i < 4; i++) {
    // A frame that is there in memory, so that loads need not wait for the length.
    const int n = quarter - i;
    v[i] = mine[(size_t)(n < 0 ? 0 : n < frames ? n : frames - 1) * HOP + i * (HOP / 4)];
    w[i] = window[i * (HOP / 4) + inner];
  }
  const long long valid = lengths[item];
  const int length = valid < frames ? (int)valid : frames;
  float total[4] = {0.f, 0.f, 0.f, 0.f}, energy[4] = {0.f, 0.f, 0.f, 0.f};
  #pragma unroll
  for (int i = 0; i < 4; i++) {
    const int n = quarter - i;
    if (n < 0 || n >= length) continue;
    const float a[4] = {v[i].x, v[i].y, v[i].z, v[i].w}, b[4] = {w[i].x, w[i].y, w[i].z, w[i].w};
    #pragma unroll
    for (int j = 0; j < 4; j++) {
      total[j] = fmaf(a[j], b[j], total[j]);
      energy[j] = fmaf(b[j], b[j], energy[j]);
    }
  }
  #pragma unroll
  for (int j = 0; j < 4; j++)
    total[j] = total[j] * (1.f / (4 * HOP)) / (energy[j] > 1e-11f ? energy[j] : 1.f);
  out[(size_t)item * vectors + at] = make_float4(total[0], total[1], total[2], total[3]);
}
"""
