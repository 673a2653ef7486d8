"""CUDA C++ of the matrix products for Hopper (compute capability 9.0): one persistent kernel.

The product is computed transposed: features are the rows of the matrix instructions (64 for each
warpgroup), tokens their columns (any multiple of 8), so a tile's token count can be chosen to fill
the chip in whole waves. One warp fetches tiles with the tensor memory accelerator through a ring of
stages, warpgroups multiply, and what follows the product is done before a tile is written; writing
goes on beside the next tile's products. CT blocks of a cluster (along the tokens) share weights.

A norm between two products is no kernel of its own (`NORM`): the first writes its result times the
norm's scale, and mean and squares of every 64 features of a token; the second multiplies that and
puts mean, deviation and shift in afterwards: norm(x) w = (x scale) w / dev - mean/dev * u + v, with
u = scale w and v = shift w + bias known for every step.

Compile-time constants: `BN` tokens of a tile, `WGS` warpgroups, `STAGES`, `CT`, `EPI` (what follows
the product, see below), `NORM`, `HEADS`.
"""

from __future__ import annotations

from f5_tts.fast.cuda_parts import HELPERS, multiply

PLAIN, GELU, GATED, ROTARY = range(4)


def source(columns: int) -> str:
    """The kernel for tiles of `columns` tokens."""
    return HELPERS + multiply(columns) + _KERNEL


_KERNEL = r"""
#define BM (64 * WGS)
#define A_BYTES (BM * 128)
#define STAGE_BYTES (A_BYTES + BN * 128)
#define REGION_BYTES (BN * 128)
// Norm of a tile's tokens, two tiles of it.
#define TAKES_NORM (NORM && EPI != 2)
#define GIVES_NORM (NORM && EPI == 2)
#define NORM_BYTES (TAKES_NORM ? 2 * BN * 8 : 0)
#define THREADS (128 * WGS + (TAKES_NORM ? 64 : 32))
// Keeps what is written between two products away from the end of half precision.
#define DOWN 0.0625f
#define UP 16.f

// GELU, tanh form.
__device__ __forceinline__ float gelu(float v) {
  float t;
  asm("tanh.approx.f32 %0, %1;" : "=f"(t) : "f"(v * (0.7978845608f + 0.0356774081f * v * v)));
  return 0.5f * v + 0.5f * v * t;
}
// What follows the product, for one thread: its two features (rows), and tokens as they come.
struct Finish {
  float bias_0, bias_1, u_0, u_1, gate_0, gate_1, c0, s0, c1, s1, cs, ss;
  const float *cosines;
  int position, frames;

  __device__ __forceinline__ void at(int there) {
    c0 = cosines[there * 32]; c1 = cosines[there * 32 + 32];
    s0 = cosines[(frames + there) * 32]; s1 = cosines[(frames + there) * 32 + 32];
  }
  // TURN 1: all tokens of the tile are of one row; 2: a row may end within it.
  template <int TURN> __device__ __forceinline__ void turn(float &a0, float &a1, float &b0,
                                                           float &b1) {
    const float p0 = a0 * c0 - b0 * s0, q0 = b0 * c0 + a0 * s0;
    const float p1 = a1 * c1 - b1 * s1, q1 = b1 * c1 + a1 * s1;
    a0 = p0; a1 = p1; b0 = q0; b1 = q1;
    position += 8;
    if (TURN == 2 && position >= frames) {
      position -= frames;
      at(position);
    } else {
      // Eight positions on, by the sum of angles: no load, and within 4e-6 of the table.
      const float t0 = c0 * cs - s0 * ss, t1 = c1 * cs - s1 * ss;
      s0 = s0 * cs + c0 * ss; s1 = s1 * cs + c1 * ss;
      c0 = t0; c1 = t1;
    }
  }
};

template <int TURN>
__device__ __forceinline__ void finish(float *d, Finish &end, u32 place, const float2 *norm_at) {
  u32 x[4] = {0, 0, 0, 0}, ahead[4] = {0, 0, 0, 0};
  if (EPI == 2) ldmatrix4t(ahead, place);
  #pragma unroll
  for (int j = 0; j < BN / 8; j += 2) {
    const bool two = j + 1 < BN / 8;
    u32 r[4] = {0, 0, 0, 0};
    if (EPI == 2) {
      #pragma unroll
      for (int n = 0; n < 4; n++) x[n] = ahead[n];
      if (j + 3 < BN / 8) ldmatrix4t(ahead, place + (j + 2) * 1024);
      else if (j + 2 < BN / 8) ldmatrix2t(ahead, place + (j + 2) * 1024);
    }
    #pragma unroll
    for (int h = 0; h < (two ? 2 : 1); h++) {
      float *v = d + 4 * (j + h);
      float a0 = v[0], a1 = v[1], b0 = v[2], b1 = v[3];
      if (TAKES_NORM) {
        const float4 n = *(const float4 *)(norm_at + 8 * (j + h));
        a0 = a0 * n.x + (n.y * end.u_0 + end.bias_0); a1 = a1 * n.z + (n.w * end.u_0 + end.bias_0);
        b0 = b0 * n.x + (n.y * end.u_1 + end.bias_1); b1 = b1 * n.z + (n.w * end.u_1 + end.bias_1);
      } else {
        a0 += end.bias_0; a1 += end.bias_0; b0 += end.bias_1; b1 += end.bias_1;
      }
      if (EPI == 1) { a0 = gelu(a0); a1 = gelu(a1); b0 = gelu(b0); b1 = gelu(b1); }
      if (EPI == 2) {
        float x0, x1, y0, y1;
        unpack(x[2 * h], x0, x1);
        unpack(x[2 * h + 1], y0, y1);
        v[0] = a0 = x0 + end.gate_0 * a0; v[1] = a1 = x1 + end.gate_0 * a1;
        v[2] = b0 = y0 + end.gate_1 * b0; v[3] = b1 = y1 + end.gate_1 * b1;
      }
      if (TURN) end.template turn<TURN>(a0, a1, b0, b1);
      r[2 * h] = pack(a0, a1);
      r[2 * h + 1] = pack(b0, b1);
    }
    if (two) stmatrix4t(place + j * 1024, r); else stmatrix2t(place + j * 1024, r);
  }
}

// EPI 0: out = w x + bias. 1: the GELU of that. 2: out += gate * (w x + bias), in place.
// 3: out = w x + bias, query and key heads below `rotated` turned by the token's position; the two
// halves of a pair lie 8 rows apart, so one thread holds both.
// x (tokens, 64 * ktiles), w (features, 64 * ktiles), out (tokens, features); table (2, frames, 32)
// fp32. EPI 2 with NORM: next = out * scale * DOWN, and moments (features / 64, tokens) of means
// and summed squared distances. Others with NORM: x is such a `next`, fold (2, features) fp32 is
// u and v.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
gemm(const __grid_constant__ Map weights, const __grid_constant__ Map tokens,
     const __grid_constant__ Map out, const __grid_constant__ Map next, const u16 *bias,
     const u16 *gate, const u16 *scale, const float *fold, float2 *moments, const float *table,
     int ktiles, int feature_groups, int token_groups, int tokens_in_all, int frames,
     int rotated) {
  extern __shared__ __align__(1024) unsigned char memory[];
  const u32 base = (u32)__cvta_generic_to_shared(memory);
  const u32 staging = base + STAGES * STAGE_BYTES, norms = staging + WGS * REGION_BYTES;
  const u32 full = norms + NORM_BYTES, empty = full + 8 * STAGES, residual = empty + 8 * STAGES;
  const u32 norm_full = residual + 16, norm_empty = norm_full + 16;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  u32 ct = 0;
  if (CT > 1) asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(ct));
  const int groups = feature_groups * token_groups, stride = gridDim.x / CT;
  const int first = blockIdx.x / CT, features = feature_groups * BM;
  const int mine = quotient(groups - first + stride - 1, stride), total = mine * ktiles;
  const int wg = warp >> 2, thread = threadIdx.x & 127;
  const u32 in_wg = warp & 3;

  // Where a tile begins.
  auto feature_of = [&](int group, int across) { return (group - across * feature_groups) * BM; };
  auto token_of = [&](int across) { return (across * CT + ct) * BN; };
  // A warpgroup's tile, and what its epilogue needs from memory: asked for before the products, and
  // for the first tile before anything is waited for.
  int feature, token, row, start;
  bool turn;
  u16 half[4] = {0, 0, 0, 0};
  Finish end;
  auto ask = [&](int group) {
    const int across = quotient(group, feature_groups);
    feature = feature_of(group, across) + wg * 64;
    token = token_of(across);
    row = feature + 16 * in_wg + (lane >> 2);
    if (TAKES_NORM) {
      end.bias_0 = fold[features + row]; end.bias_1 = fold[features + row + 8];
      end.u_0 = fold[row]; end.u_1 = fold[row + 8];
    } else {
      // Widened behind the products: that would wait for them here.
      half[0] = bias[row]; half[1] = bias[row + 8];
    }
    if (EPI == 2) { half[2] = gate[row]; half[3] = gate[row + 8]; }
    turn = EPI == 3 && (feature >> 6) < 2 * HEADS && (feature >> 6) % HEADS < rotated;
    start = EPI == 3 ? token - quotient(token, frames) * frames : 0;
    if (turn) {
      // Frames are even in number: a pair of tokens is of one row.
      const int position = start + 2 * (lane & 3);
      end.cosines = table + 8 * in_wg + (lane >> 2);
      end.frames = frames;
      end.position = position < frames ? position : position - frames;
      end.at(end.position);
      end.cs = end.cosines[8 * 32];
      end.ss = end.cosines[(frames + 8) * 32];
    }
  };

  if (warp < 4 * WGS) {
    ask(first);
  } else if (warp == 4 * WGS && lane == 0) {
    #pragma unroll
    for (int i = 0; i < STAGES; i++) {
      bar_init(full + 8 * i, 1);
      bar_init(empty + 8 * i, CT * WGS);
    }
    bar_init(residual, 1);
    bar_init(residual + 8, WGS);
    #pragma unroll
    for (int i = 0; i < 2; i++) {
      bar_init(norm_full + 8 * i, 1);
      bar_init(norm_empty + 8 * i, WGS);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  } else if (warp == 4 * WGS && lane == 1) {
    see(weights);
    see(tokens);
    see(out);
    if (GIVES_NORM) see(next);
  }
  if (CT > 1) {
    asm volatile("barrier.cluster.arrive.aligned;\nbarrier.cluster.wait.aligned;" ::: "memory");
  } else {
    __syncwarp();
    meet_first(warp != 4 * WGS, THREADS);
  }
  let_next_start();

  if (warp == 4 * WGS) {
    if (lane == 0) {
      auto fetch_weights = [&](int stage, int k, int feature) {
        const u32 to = base + stage * STAGE_BYTES + ct * (A_BYTES / CT);
        const int row = feature + ct * (BM / CT);
        if (CT > 1) fetch_for(to, weights, 64 * k, row, full + 8 * stage, (1 << CT) - 1);
        else fetch(to, weights, 64 * k, row, full + 8 * stage);
      };
      auto fetch_tokens = [&](int stage, int k, int token) {
        fetch(base + stage * STAGE_BYTES + A_BYTES, tokens, 64 * k, token, full + 8 * stage);
      };
      int stage = 0;
      u32 turns = 1;
      for (int i = 0, group = first; i < mine; i++, group += stride) {
        const int across = quotient(group, feature_groups);
        const int feature = feature_of(group, across), token = token_of(across);
        const int early = ktiles < STAGES ? ktiles : STAGES;
        int k = 0;
        if (i == 0) {
          // Weights do not depend on the kernel before: they are on their way while it ends.
          for (; k < early; k++) {
            bar_expect(full + 8 * k, STAGE_BYTES);
            fetch_weights(k, k, feature);
          }
          wait_for_previous();
          for (k = 0; k < early; k++) fetch_tokens(k, k, token);
          if (early == STAGES) turns = 0; else stage = early;
        }
        for (; k <= ktiles; k++) {
          if (EPI == 2 && k == early) {
            // What the result is added to, straight to where it will be added.
            if (i > 0) bar_wait(residual + 8, (i - 1) & 1);
            bar_expect(residual, WGS * REGION_BYTES);
            #pragma unroll
            for (int b = 0; b < WGS; b++)
              fetch(staging + b * REGION_BYTES, out, feature + 64 * b, token, residual);
          }
          if (k == ktiles) break;
          // The first round passes: a new barrier counts as having turned before.
          bar_wait(empty + 8 * stage, turns);
          bar_expect(full + 8 * stage, STAGE_BYTES);
          fetch_weights(stage, k, feature);
          fetch_tokens(stage, k, token);
          if (++stage == STAGES) { stage = 0; turns ^= 1; }
        }
      }
    }
    return;
  }
  if (TAKES_NORM && warp == 4 * WGS + 1) {
    // Mean and deviation of the tile's tokens, beside the products.
    wait_for_previous();
    for (int i = 0, group = first; i < mine; i++, group += stride) {
      const int token = token_of(quotient(group, feature_groups));
      if (i > 1) bar_wait(norm_empty + 8 * (i & 1), (i / 2 - 1) & 1);
      for (int t = lane; t < BN; t += 32) {
        float sum = 0.f, squares = 0.f, inside = 0.f;
        if (token + t < tokens_in_all) {
          #pragma unroll 16
          for (int k = 0; k < ktiles; k++) {
            const float2 m = moments[(size_t)k * tokens_in_all + token + t];
            sum += m.x; squares += m.x * m.x; inside += m.y;
          }
        }
        const float many = 1.f / ktiles, mean = sum * many;
        const float spread = inside * many / 64.f + fmaxf(squares * many - mean * mean, 0.f);
        const float inverse = rsqrtf(spread + 1e-6f);
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" :: "r"(norms + ((i & 1) * BN + t) * 8),
                     "f"(UP * inverse), "f"(-mean * inverse) : "memory");
      }
      __syncwarp();
      if (lane == 0) bar_arrive(norm_full + 8 * (i & 1));
    }
    return;
  }

  const u32 region = staging + wg * REGION_BYTES;
  // A warp's lanes name the rows (tokens) of the 8 x 8 matrices that are stored transposed.
  const u32 place = region + (8 * (lane >> 4) + (lane & 7)) * 128 +
                    (((2 * in_wg + ((lane >> 3) & 1)) ^ (lane & 7)) << 4);
  float d[BN / 2];
  int stage = 0, before = 0, told = 0;
  u32 turns = 0;
  auto tell_read = [&]() {
    // Nobody waits for the last stages to be read, and nobody may be told who is gone.
    if (thread < CT && told + STAGES < total) {
      if (CT > 1) bar_arrive_at(empty + 8 * before, thread);
      else bar_arrive(empty + 8 * before);
    }
    told++;
  };

  for (int i = 0; i < mine; i++) {
    if (i > 0) ask(first + i * stride);
    // Nothing that another kernel writes was read so far.
    if (i == 0) wait_for_previous();
    for (int k = 0; k < ktiles; k++) {
      bar_wait(full + 8 * stage, turns);
      const u64 a = descriptor(base + stage * STAGE_BYTES + wg * 8192);
      const u64 b = descriptor(base + stage * STAGE_BYTES + A_BYTES);
      wg_begin();
      #pragma unroll
      for (int s = 0; s < 4; s++) wg_mma(d, a + 2 * s, b + 2 * s, k | s);
      wg_commit();
      wg_wait<1>();
      if (k > 0) tell_read();
      before = stage;
      if (++stage == STAGES) { stage = 0; turns ^= 1; }
    }
    wg_wait<0>();
    exists<BN / 2>(d);
    tell_read();
    if (!TAKES_NORM) { end.bias_0 = widen(half[0]); end.bias_1 = widen(half[1]); }
    if (EPI == 2) { end.gate_0 = widen(half[2]); end.gate_1 = widen(half[3]); }
    if (EPI == 2) {
      bar_wait(residual, i & 1);
    } else if (i > 0) {
      if (thread == 0) stores_read<0>();
      meet(1 + wg, 128);
    }
    if (TAKES_NORM) bar_wait(norm_full + 8 * (i & 1), (i >> 1) & 1);
    const float2 *norm_at =
        (const float2 *)(memory + (norms - base)) + (i & 1) * BN + 2 * (lane & 3);
    if (!turn) finish<0>(d, end, place, norm_at);
    else if (start + BN <= frames) finish<1>(d, end, place, norm_at);
    else finish<2>(d, end, place, norm_at);
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    meet(1 + wg, 128);
    if (thread == 0) store(out, feature, token, region);
    if (TAKES_NORM && thread == 0) bar_arrive(norm_empty + 8 * (i & 1));
#if GIVES_NORM
    // A thread a token: mean and squares of this warpgroup's 64 features.
    for (int t = thread; t < BN; t += 128) {
      float sum = 0.f, squares = 0.f;
      #pragma unroll 2
      for (int c = 0; c < 8; c++) {
        float f[8];
        load8(f, region + t * 128 + ((c ^ (t & 7)) << 4));
        #pragma unroll
        for (int n = 0; n < 8; n++) sum += f[n];
      }
      sum *= 1.f / 64.f;
      #pragma unroll 2
      for (int c = 0; c < 8; c++) {
        float f[8];
        load8(f, region + t * 128 + ((c ^ (t & 7)) << 4));
        #pragma unroll
        for (int n = 0; n < 8; n++) squares += (f[n] - sum) * (f[n] - sum);
      }
      if (token + t < tokens_in_all)
        moments[(size_t)(feature >> 6) * tokens_in_all + token + t] = make_float2(sum, squares);
    }
    const float scale_0 = DOWN * widen(scale[row]), scale_1 = DOWN * widen(scale[row + 8]);
    if (thread == 0) stores_read<0>();
    meet(1 + wg, 128);
    #pragma unroll
    for (int j = 0; j < BN / 8; j += 2) {
      const bool two = j + 1 < BN / 8;
      u32 r[4] = {0, 0, 0, 0};
      #pragma unroll
      for (int h = 0; h < (two ? 2 : 1); h++) {
        const float *v = d + 4 * (j + h);
        r[2 * h] = pack(v[0] * scale_0, v[1] * scale_0);
        r[2 * h + 1] = pack(v[2] * scale_1, v[3] * scale_1);
      }
      if (two) stmatrix4t(place + j * 1024, r); else stmatrix2t(place + j * 1024, r);
    }
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
    meet(1 + wg, 128);
    if (thread == 0) store(next, feature, token, region);
#endif
    if (EPI == 2 && i + 1 < mine && thread == 0) { stores_read<0>(); bar_arrive(residual + 8); }
  }
  if (thread == 0) stores_read<0>();
}
"""
