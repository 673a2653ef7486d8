"""CUDA C++ of the fused kernels, compiled at run time by NVRTC (part of every CUDA build of torch).

No headers are included, so nothing but NVRTC itself is needed: half precision is handled with
inline PTX. Compile-time constants: `DIM` (model width), `HEADS`, `HALF` (half a head), `MEL`,
`MELP` (mel rounded up to 8), `BLOCKS` (attention blocks a
multiprocessor). All kernels compute in fp32 and round once.
"""

from f5_tts.fast.cuda_conv import CONVOLUTION
from f5_tts.fast.cuda_halves import EIGHTS, HALVES

SOURCE = (
    HALVES
    + EIGHTS
    + r"""
typedef unsigned short u16;

// Programmatic dependent launch: what the kernel before wrote is there from here on, and the
// kernel behind may be set up.
__device__ __forceinline__ void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;\ngriddepcontrol.wait;" ::: "memory");
#endif
}

// Vectors of 8 halves that one lane holds of a row.
#define VECS ((DIM / 8 + 31) / 32)

// One warp a row: x += gate * y (if ADD), then out = layer_norm(x) * mod[0] + mod[1].
template <bool ADD>
__device__ __forceinline__ void norm_row(uint4 *x, const uint4 *y, const uint4 *gate,
                                         const uint4 *mod, uint4 *out, int rows) {
  const int lane = threadIdx.x & 31;
  const int row = blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5);
  wait_for_previous();
  if (row >= rows) return;
  x += (size_t)row * (DIM / 8);
  if (ADD) y += (size_t)row * (DIM / 8);
  out += (size_t)row * (DIM / 8);
  float f[VECS][8];
  float sum = 0.f;
  uint4 vx[VECS], vy[VECS];
  #pragma unroll
  for (int i = 0; i < VECS; i++) {
    const int at = lane + 32 * i;
    if (at < DIM / 8) { vx[i] = x[at]; if (ADD) vy[i] = y[at]; }
  }
  #pragma unroll
  for (int i = 0; i < VECS; i++) {
    const int at = lane + 32 * i;
    if (at < DIM / 8) {
      unpack8(vx[i], f[i]);
      if (ADD) {
        float fy[8], fg[8];
        unpack8(vy[i], fy);
        unpack8(__ldg(gate + at), fg);
        #pragma unroll
        for (int j = 0; j < 8; j++) f[i][j] += fg[j] * fy[j];
        x[at] = pack8(f[i]);
      }
      #pragma unroll
      for (int j = 0; j < 8; j++) sum += f[i][j];
    }
  }
  const float mean = warp_sum(sum) * (1.f / DIM);
  float square = 0.f;
  #pragma unroll
  for (int i = 0; i < VECS; i++) {
    if (lane + 32 * i < DIM / 8) {
      #pragma unroll
      for (int j = 0; j < 8; j++) { const float d = f[i][j] - mean; square += d * d; }
    }
  }
  const float inverse = rsqrtf(warp_sum(square) * (1.f / DIM) + 1e-6f);
  #pragma unroll
  for (int i = 0; i < VECS; i++) {
    const int at = lane + 32 * i;
    if (at < DIM / 8) {
      float scale[8], shift[8];
      unpack8(__ldg(mod + at), scale);
      unpack8(__ldg(mod + DIM / 8 + at), shift);
      #pragma unroll
      for (int j = 0; j < 8; j++) f[i][j] = (f[i][j] - mean) * inverse * scale[j] + shift[j];
      out[at] = pack8(f[i]);
    }
  }
}

extern "C" __global__ void __launch_bounds__(128)
add_norm(uint4 *x, const uint4 *y, const uint4 *gate, const uint4 *mod, uint4 *out, int rows) {
  norm_row<true>(x, y, gate, mod, out, rows);
}

extern "C" __global__ void __launch_bounds__(128)
norm_only(uint4 *x, const uint4 *mod, uint4 *out, int rows) {
  norm_row<false>(x, nullptr, nullptr, mod, out, rows);
}

// One warp a token. qkv (tokens, 3, HEADS, 2 * HALF), the halves of a pair 8 apart; table
// (2, frames, HALF) fp32.
#define CHUNKS (HALF / 8)
extern "C" __global__ void __launch_bounds__(128)
rotate(uint4 *qkv, const float *table, int tokens, int frames, int rotated) {
  wait_for_previous();
  const int token = blockIdx.x * 4 + (threadIdx.x >> 5);
  if (token >= tokens) return;
  const int lane = threadIdx.x & 31;
  const int chunk = lane % CHUNKS, slot = lane / CHUNKS;
  const int slots = 32 / CHUNKS;
  const int position = token % frames;
  float c[8], s[8];
  const float4 *cosines = (const float4 *)(table + (size_t)position * HALF) + 2 * chunk;
  const float4 *sines = (const float4 *)(table + (size_t)(frames + position) * HALF) + 2 * chunk;
  *(float4 *)c = __ldg(cosines); *(float4 *)(c + 4) = __ldg(cosines + 1);
  *(float4 *)s = __ldg(sines); *(float4 *)(s + 4) = __ldg(sines + 1);
  uint4 *row = qkv + (size_t)token * (3 * HEADS * 2 * CHUNKS);
  #pragma unroll 4
  for (int i = slot; i < 2 * HEADS; i += slots) {
    if ((i % HEADS) >= rotated) continue;
    uint4 *head = row + i * (2 * CHUNKS);
    float a[8], b[8], p[8], q[8];
    unpack8(head[2 * chunk], a);
    unpack8(head[2 * chunk + 1], b);
    #pragma unroll
    for (int j = 0; j < 8; j++) {
      p[j] = a[j] * c[j] - b[j] * s[j];
      q[j] = b[j] * c[j] + a[j] * s[j];
    }
    head[2 * chunk] = pack8(p);
    head[2 * chunk + 1] = pack8(q);
  }
}

// A step's modulation, to where the step reads it.
extern "C" __global__ void take_row(const uint4 *from, uint4 *to, int vectors) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < vectors) to[at] = from[at];
}

// y (tokens, MEL) fp32 to (tokens, MELP) fp16, padded with zeros.
extern "C" __global__ void cast_pad(const float *y, u32 *out, int tokens) {
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= tokens * (MELP / 2)) return;
  const int token = at / (MELP / 2), column = 2 * (at % (MELP / 2));
  const float a = column < MEL ? y[(size_t)token * MEL + column] : 0.f;
  const float b = column + 1 < MEL ? y[(size_t)token * MEL + column + 1] : 0.f;
  out[at] = pack(a, b);
}

// out[r, n] = n < lengths[r] ? constant[r, n] + h[r % items, n] : 0, over (rows, frames, DIM).
extern "C" __global__ void join_input(const uint4 *h, const uint4 *constant, const int *lengths,
                                      uint4 *out, int items, int rows, int frames) {
  wait_for_previous();
  const size_t at = (size_t)blockIdx.x * blockDim.x + threadIdx.x;
  const size_t total = (size_t)rows * frames * (DIM / 8);
  if (at >= total) return;
  const size_t token = at / (DIM / 8);
  const int row = (int)(token / frames), frame = (int)(token % frames);
  if (frame >= lengths[row]) { out[at] = make_uint4(0, 0, 0, 0); return; }
  const size_t source = ((size_t)(row % items) * frames + frame) * (DIM / 8) + at % (DIM / 8);
  float a[8], b[8];
  unpack8(constant[at], a);
  unpack8(h[source], b);
  #pragma unroll
  for (int j = 0; j < 8; j++) a[j] += b[j];
  out[at] = pack8(a);
}

// y += delta * (f + (f - g) * guidance), f and g the two halves of flow (rows, MELP) fp16.
extern "C" __global__ void advance(float *y, const u16 *flow, const float *delta,
                                   const float *guidance, int items, int frames) {
  wait_for_previous();
  const int at = blockIdx.x * blockDim.x + threadIdx.x;
  const int per_item = frames * MEL;
  if (at >= items * per_item) return;
  const int token = at / MEL, column = at % MEL;
  float f, unused;
  unpack((u32)flow[(size_t)token * MELP + column], f, unused);
  if (guidance) {
    float g;
    unpack((u32)flow[(size_t)(token + items * frames) * MELP + column], g, unused);
    f = f + (f - g) * guidance[at / per_item];
  }
  y[at] += delta[0] * f;
}

__device__ __forceinline__ u32 shared_at(const void *p) {
  return (u32)__cvta_generic_to_shared(p);
}
__device__ __forceinline__ void copy16(u32 to, const void *from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" :: "r"(to), "l"(from));
}
__device__ __forceinline__ void ldmatrix4(u32 *r, u32 at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}
__device__ __forceinline__ void mma(float *c, const u32 *a, u32 b0, u32 b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
               "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
// Rows of 128 bytes, eight 16-byte chunks each, chunk index exclusive-or row: no bank conflicts.
__device__ __forceinline__ u32 swizzled(int row, int chunk) {
  return row * 128 + ((chunk ^ (row & 7)) << 4);
}


#if HALF == 32
// Attention, one block: 128 queries of one head of one row; four warps of 32 queries each.
// qkv: (rows, frames, 3, HEADS, 64). Keys past lengths[row] do not count. Keys and values come in
// tiles of 64 through a ring of three; scores are worked on in halves of 32 keys, which bounds the
// registers. The row sums are a matrix product with
// ones, over the same weights rounded to half that the second product uses.
__device__ __forceinline__ void ldmatrix4t(u32 *r, u32 at) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3]) : "r"(at));
}
__device__ __forceinline__ float exp2_approx(float v) {
  float r;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(r) : "f"(v));
  return r;
}
__device__ __forceinline__ u32 exp2_pair(float a, float b) {
  return pack(exp2_approx(a), exp2_approx(b));
}
// 16 bytes, or zeros where the source does not count.
__device__ __forceinline__ void copy16_or_zero(u32 to, const void *from, bool real) {
  const int bytes = real ? 16 : 0;
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" :: "r"(to), "l"(from), "r"(bytes));
}

#define KEYS 64
#define QUERIES 128
#define TOKEN (3 * HEADS * 64)
#define NEGATIVE __int_as_float(0xff800000)

__device__ __forceinline__ void load_keys(u32 to, const u16 *keys, int first, int length) {
  #pragma unroll
  for (int i = 0; i < 4; i++) {
    const int piece = threadIdx.x + 128 * i, r = piece >> 3, chunk = piece & 7;
    const bool real = first + r < length;
    const u16 *from = keys + (size_t)(real ? first + r : 0) * TOKEN + chunk * 8;
    copy16_or_zero(to + swizzled(r, chunk), from, real);
    copy16_or_zero(to + KEYS * 128 + swizzled(r, chunk), from + HEADS * 64, real);
  }
}

extern "C" __global__ void __launch_bounds__(128, BLOCKS)
attend(const u16 *qkv, const int *lengths, u16 *out, int frames) {
  wait_for_previous();
  __shared__ __align__(128) unsigned char ring[3][2 * KEYS * 128];
  const int head = blockIdx.y, row = blockIdx.z, first = blockIdx.x * QUERIES;
  const int warp = threadIdx.x >> 5, lane = threadIdx.x & 31;
  const int length = lengths[row];
  const float factor = 0.125f * 1.44269504088896f;
  const u16 *queries = qkv + (size_t)row * frames * TOKEN + head * 64;
  const u16 *keys = queries + HEADS * 64;
  const int tiles = (length + KEYS - 1) / KEYS;
  const u32 base = shared_at(ring);

  #pragma unroll
  for (int i = 0; i < 8; i++) {
    const int piece = threadIdx.x + 128 * i, r = piece >> 3, chunk = piece & 7;
    const bool real = first + r < frames;
    copy16_or_zero(base + 2 * (2 * KEYS * 128) + swizzled(r, chunk),
                   queries + (size_t)(real ? first + r : 0) * TOKEN + chunk * 8, real);
  }
  asm volatile("cp.async.commit_group;");
  load_keys(base, keys, 0, length);
  asm volatile("cp.async.commit_group;");
  if (tiles > 1) load_keys(base + 2 * KEYS * 128, keys, KEYS, length);
  asm volatile("cp.async.commit_group;");
  asm volatile("cp.async.wait_group 2;");
  __syncthreads();

  u32 q[2][4][4];
  #pragma unroll
  for (int i = 0; i < 2; i++)
    #pragma unroll
    for (int k = 0; k < 4; k++)
      ldmatrix4(q[i][k], base + 2 * (2 * KEYS * 128) +
                swizzled(warp * 32 + 16 * i + (lane & 15), 2 * k + (lane >> 4)));

  float o[2][8][4], sums[2][4], top[2][2];
  #pragma unroll
  for (int i = 0; i < 2; i++) {
    #pragma unroll
    for (int j = 0; j < 8; j++)
      #pragma unroll
      for (int k = 0; k < 4; k++) o[i][j][k] = 0.f;
    #pragma unroll
    for (int k = 0; k < 4; k++) sums[i][k] = 0.f;
    top[i][0] = top[i][1] = NEGATIVE;
  }
  const int krow = (lane & 7) + ((lane >> 4) << 3), kchunk = (lane >> 3) & 1;
  const int vrow = (lane & 7) + (((lane >> 3) & 1) << 3), vchunk = lane >> 4;

  for (int tile = 0; tile < tiles; tile++) {
    asm volatile("cp.async.wait_group 1;");
    __syncthreads();
    if (tile + 2 < tiles)
      load_keys(base + ((tile + 2) % 3) * (2 * KEYS * 128), keys, (tile + 2) * KEYS, length);
    asm volatile("cp.async.commit_group;");
    const u32 kbase = base + (tile % 3) * (2 * KEYS * 128), vbase = kbase + KEYS * 128;
    #pragma unroll
    for (int part = 0; part < 2; part++) {
      float s[2][4][4];
      #pragma unroll
      for (int i = 0; i < 2; i++)
        #pragma unroll
        for (int j = 0; j < 4; j++)
          #pragma unroll
          for (int k = 0; k < 4; k++) s[i][j][k] = 0.f;
      #pragma unroll
      for (int k = 0; k < 4; k++) {
        u32 b[2][4];
        #pragma unroll
        for (int j = 0; j < 2; j++)
          ldmatrix4(b[j], kbase + swizzled(32 * part + 16 * j + krow, 2 * k + kchunk));
        #pragma unroll
        for (int i = 0; i < 2; i++)
          #pragma unroll
          for (int j = 0; j < 2; j++) {
            mma(s[i][2 * j], q[i][k], b[j][0], b[j][1]);
            mma(s[i][2 * j + 1], q[i][k], b[j][2], b[j][3]);
          }
      }
      const int left = length - tile * KEYS - 32 * part;
      if (left < 32) {
        #pragma unroll
        for (int i = 0; i < 2; i++)
          #pragma unroll
          for (int j = 0; j < 4; j++)
            #pragma unroll
            for (int k = 0; k < 4; k++)
              if (8 * j + 2 * (lane & 3) + (k & 1) >= left) s[i][j][k] = NEGATIVE;
      }
      float peak[2][2];
      bool higher = false;
      #pragma unroll
      for (int i = 0; i < 2; i++)
        #pragma unroll
        for (int h = 0; h < 2; h++) {
          float p = fmaxf(s[i][0][2 * h], s[i][0][2 * h + 1]);
          #pragma unroll
          for (int j = 1; j < 4; j++) p = fmaxf(p, fmaxf(s[i][j][2 * h], s[i][j][2 * h + 1]));
          p = fmaxf(p, __shfl_xor_sync(0xffffffffu, p, 1));
          p = fmaxf(p, __shfl_xor_sync(0xffffffffu, p, 2));
          peak[i][h] = fmaxf(top[i][h], p);
          higher |= peak[i][h] > top[i][h];
        }
      if (__any_sync(0xffffffffu, higher)) {
        #pragma unroll
        for (int i = 0; i < 2; i++)
          #pragma unroll
          for (int h = 0; h < 2; h++) {
            const float shrink = exp2_approx((top[i][h] - peak[i][h]) * factor);
            #pragma unroll
            for (int j = 0; j < 8; j++) { o[i][j][2 * h] *= shrink; o[i][j][2 * h + 1] *= shrink; }
            sums[i][2 * h] *= shrink;
            top[i][h] = peak[i][h];
          }
      }
      #pragma unroll
      for (int k = 0; k < 2; k++) {
        u32 p[2][4];
        #pragma unroll
        for (int i = 0; i < 2; i++)
          #pragma unroll
          for (int h = 0; h < 2; h++) {
            const float offset = top[i][h] * factor;
            #pragma unroll
            for (int j = 0; j < 2; j++)
              p[i][h + 2 * j] = exp2_pair(s[i][2 * k + j][2 * h] * factor - offset,
                                          s[i][2 * k + j][2 * h + 1] * factor - offset);
          }
        #pragma unroll
        for (int i = 0; i < 2; i++) mma(sums[i], p[i], 0x3c003c00u, 0x3c003c00u);
        #pragma unroll
        for (int d = 0; d < 4; d++) {
          u32 v[4];
          ldmatrix4t(v, vbase + swizzled(32 * part + 16 * k + vrow, 2 * d + vchunk));
          #pragma unroll
          for (int i = 0; i < 2; i++) {
            mma(o[i][2 * d], p[i], v[0], v[1]);
            mma(o[i][2 * d + 1], p[i], v[2], v[3]);
          }
        }
      }
    }
  }
  #pragma unroll
  for (int i = 0; i < 2; i++)
    #pragma unroll
    for (int h = 0; h < 2; h++) {
      const int frame = first + warp * 32 + 16 * i + 8 * h + (lane >> 2);
      if (frame >= frames) continue;
      const float inverse = 1.f / sums[i][2 * h];
      u16 *to = out + (((size_t)row * frames + frame) * HEADS + head) * 64 + 2 * (lane & 3);
      #pragma unroll
      for (int j = 0; j < 8; j++)
        *(u32 *)(to + 8 * j) = pack(o[i][j][2 * h] * inverse, o[i][j][2 * h + 1] * inverse);
    }
}
#endif

"""
    + CONVOLUTION
)
