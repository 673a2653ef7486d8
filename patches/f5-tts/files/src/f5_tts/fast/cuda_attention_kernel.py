"""The Hopper attention kernel (compute capability 9.0, head dimension 64).

The same contract as `attend` in `cuda_source`, over twice its speed on that chip. Compiled for
sm_90a; on every other GPU the portable kernel runs. How it is launched: `cuda_attention`.

One warp copies queries, keys and values into a ring in shared memory with the copy engine; two or
three groups of four warps each own 64 queries and share the keys. What bounds it is the sum of
matrix and ordinary instructions, which hardly run beside each other. So the loop is short: the sums
of the weights are further columns of the product with the values, a row's reference for its
exponentials moves only when a score is far above it, and that is looked for with three-way maxima
of integers.
"""

from __future__ import annotations

from f5_tts.fast.cuda_hopper import OUTPUT_FLOATS, instructions

ROWS = 64  # queries of a warpgroup
# What a thread leaves of a part of an item: its output, and the references of its two rows.
PART_FLOATS = OUTPUT_FLOATS + 2


def shared_bytes(groups: int, keys: int, stages: int) -> int:
    """Dynamic shared memory of the kernel with these sizes."""
    tiles = 2 * groups * ROWS * 128 + 2 * stages * keys * 128
    return tiles + 2048 + 48 + 32 * stages + groups * PART_FLOATS * 512


def source(keys: int) -> str:
    """CUDA source for tiles of `keys` keys, a multiple of 16.

    Compile-time constants: `KEYS` (the same number), `HEADS`, `GROUPS` (2 or 3), `STAGES`.
    """
    return instructions(keys) + _SOURCE


_SOURCE = r"""
#define WARPGROUP 128
#define TILE (64 * 128)
#define STAGE (KEYS * 128)
#define SCORES (KEYS / 2)
#define STEPS (KEYS / 16)
#define OUTPUT 36
#define PART (OUTPUT + 2)
#define QUERIES (64 * GROUPS)
#define NEGATIVE __int_as_float(0xff800000)
// Scores to powers of two: 1 / sqrt(64) and log2(e). A reference may lag by 2^8: weights up to 256
// are as exact in fp16 as weights up to 1.
#define FACTOR (0.125f * 1.44269504088896f)
#define SLACK (8.f / FACTOR)

// Queries twice: the next item's come while this one is worked on.
#define KEYS_AT (2 * GROUPS * TILE)
#define VALUES_AT (KEYS_AT + STAGES * STAGE)
#define ONES_AT (VALUES_AT + STAGES * STAGE)
#define PART_AT (ONES_AT + 2048)
#define BARS_AT (PART_AT + GROUPS * PART * WARPGROUP * 4)
#define RAW_FULL (BARS_AT)
#define PART_FULL (BARS_AT + 8)
#define Q_FULL(stage) (BARS_AT + 16 + 8 * (stage))
#define Q_EMPTY(stage) (BARS_AT + 32 + 8 * (stage))
#define K_FULL(stage) (BARS_AT + 48 + 8 * (stage))
#define V_FULL(stage) (K_FULL(stage) + 8 * STAGES)
#define K_EMPTY(stage) (K_FULL(stage) + 16 * STAGES)
#define V_EMPTY(stage) (K_FULL(stage) + 24 * STAGES)

__device__ __forceinline__ void scores(float *s, u32 queries, u32 keys) {
  #pragma unroll
  for (int i = 0; i < 4; i++)
    wg_scores(s, descriptor(queries + 2 * i), descriptor(keys + 2 * i), i > 0);
  wg_commit();
}
// 16 keys further is 2048 bytes further, and so much less far from the ones.
__device__ __forceinline__ void values(float *o, u32 (*p)[4], u32 from) {
  #pragma unroll
  for (int i = 0; i < STEPS; i++) wg_values(o, p[i], descriptor(from + 128 * i - (128u * i << 16)));
  wg_commit();
}
__device__ __forceinline__ void row_top(const float *s, float *high) {
  #pragma unroll
  for (int h = 0; h < 2; h++) {
    high[h] = fmaxf(s[2 * h], s[2 * h + 1]);
    #pragma unroll
    for (int j = 1; j < SCORES / 4; j++)
      high[h] = fmaxf(high[h], fmaxf(s[4 * j + 2 * h], s[4 * j + 2 * h + 1]));
    high[h] = fmaxf(high[h], __shfl_xor_sync(0xffffffffu, high[h], 1));
    high[h] = fmaxf(high[h], __shfl_xor_sync(0xffffffffu, high[h], 2));
  }
}
// Whether a score of this thread is above its row's limit. Positive floats compare as integers,
// three at a time; a limit that is not positive is answered with yes.
__device__ __forceinline__ bool above(const float *s, const float *limit) {
  bool found = fminf(limit[0], limit[1]) <= 0.f;
  #pragma unroll
  for (int h = 0; h < 2; h++) {
    int high = __float_as_int(limit[h]);
    #pragma unroll
    for (int j = 0; j < SCORES / 4; j++)
      high = __vimax3_s32(high, __float_as_int(s[4 * j + 2 * h]),
                          __float_as_int(s[4 * j + 2 * h + 1]));
    found |= high != __float_as_int(limit[h]);
  }
  return found;
}
__device__ __forceinline__ void weigh(float *s, const float *top) {
  #pragma unroll
  for (int h = 0; h < 2; h++) {
    const float offset = top[h] * FACTOR;
    #pragma unroll
    for (int j = 0; j < SCORES / 4; j++)
      #pragma unroll
      for (int k = 0; k < 2; k++) {
        float &v = s[4 * j + 2 * h + k];
        v = exp2_approx(v * FACTOR - offset);
      }
  }
}
// Whether the rows' references had to move, and by what the output shrinks if so.
__device__ __forceinline__ bool follow(const float *s, float *top, float *shrink) {
  const float limit[2] = {top[0] + SLACK, top[1] + SLACK};
  const bool moved = __any_sync(0xffffffffu, above(s, limit));
  if (moved) {
    float high[2];
    row_top(s, high);
    #pragma unroll
    for (int h = 0; h < 2; h++) {
      const float next = high[h] > limit[h] ? high[h] : top[h];
      shrink[h] = exp2_approx((top[h] - next) * FACTOR);
      top[h] = next;
    }
  }
  return moved;
}
__device__ __forceinline__ void pack_weights(u32 (*p)[4], const float *s) {
  #pragma unroll
  for (int j = 0; j < SCORES / 4; j++)
    #pragma unroll
    for (int h = 0; h < 2; h++)
      p[j >> 1][h + 2 * (j & 1)] = pack(s[4 * j + 2 * h], s[4 * j + 2 * h + 1]);
}

template <int COUNT>
struct Ring {
  int stage;
  u32 parity;
  __device__ __forceinline__ void next() {
    if (++stage == COUNT) { stage = 0; parity ^= 1; }
  }
};
// A piece of an item (QUERIES queries of one head of one row): `count` tiles of keys from `from`
// down. The last tile comes first: it alone may hold keys that do not count.
struct Work { int first, head, row, length, tiles, from, count; bool begins, ends; };
// What a block does: whole items in turn; or, where that would leave blocks without work for long,
// an equal run of steps (a step: one tile of keys of one item), which may begin and end within an
// item. Runs follow from the sizes of the batch alone, so what is in it changes no result.
struct Share {
  int item, at, end, stride, depth, blocks;
  __device__ __forceinline__ Share(int frames, int items, int split) {
    depth = (frames + KEYS - 1) / KEYS;
    blocks = (frames + QUERIES - 1) / QUERIES;
    stride = split ? 0 : gridDim.x;
    // The first so many blocks of equal runs have one step more.
    const int block = blockIdx.x, run = split ? quotient(items * depth, gridDim.x) : 0;
    const int longer = items * depth - run * gridDim.x;
    item = block;
    at = block * run + min(block, longer);
    end = split ? at + run + (block < longer) : items;
  }
  __device__ __forceinline__ bool more() const { return (stride ? item : at) < end; }
  __device__ __forceinline__ Work next(const int *lengths) {
    Work w;
    int from = 0, to = depth;
    if (!stride) {
      item = quotient(at, depth);
      from = at - item * depth;
      to = min(depth, from + end - at);
      at += to - from;
    }
    const int across = quotient(item, blocks);
    w.begins = from == 0;
    w.ends = to == depth;
    w.first = (item - across * blocks) * QUERIES;
    w.head = across % HEADS;
    w.row = across / HEADS;
    w.length = lengths[w.row];
    w.tiles = w.first < w.length ? (w.length + KEYS - 1) / KEYS : 0;
    w.from = min(depth - from, w.tiles) - 1;
    w.count = max(0, w.from + 1 - (depth - to));
    item += stride;
    return w;
  }
};

// The end of an item that another block began: that block finishes it.
__device__ __forceinline__ void leave(float *parts, int *flags, int group, const float *o,
                                      const float *top) {
  const int thread = threadIdx.x % WARPGROUP;
  float *to = parts + ((size_t)blockIdx.x * GROUPS + group) * PART * WARPGROUP + thread;
  #pragma unroll
  for (int i = 0; i < OUTPUT; i++) __stcg(to + WARPGROUP * i, o[i]);
  __stcg(to + WARPGROUP * OUTPUT, top[0]);
  __stcg(to + WARPGROUP * (OUTPUT + 1), top[1]);
  asm volatile("bar.sync %0, 128;" :: "r"(1 + group) : "memory");
  if (thread == 0) {
    __threadfence();
    atomicAdd(flags + blockIdx.x, 1);
  }
}
__device__ __forceinline__ void join(const float *part, float *o, float *top) {
  float mine[2], theirs[2];
  #pragma unroll
  for (int h = 0; h < 2; h++) {
    const float other = part[WARPGROUP * (OUTPUT + h)], high = fmaxf(top[h], other);
    mine[h] = top[h] == high ? 1.f : exp2_approx((top[h] - high) * FACTOR);
    theirs[h] = other == high ? 1.f : exp2_approx((other - high) * FACTOR);
  }
  #pragma unroll
  for (int i = 0; i < OUTPUT; i++)
    o[i] = o[i] * mine[(i >> 1) & 1] + part[WARPGROUP * i] * theirs[(i >> 1) & 1];
}

__device__ __forceinline__ void produce(unsigned char *memory, u32 base, Share share,
                                        const TensorMap *query_map, const TensorMap *key_map,
                                        const int *lengths, const float *parts, int *flags) {
  const int lane = threadIdx.x & 31;
  Ring<STAGES> ring = {0, 1};
  Ring<2> q = {0, 1};
  u32 raw_parity = 0;
  while (share.more()) {
    const Work w = share.next(lengths);
    if (w.count) {
      const u32 full = base + Q_FULL(q.stage), to = base + q.stage * GROUPS * TILE;
      bar_wait(base + Q_EMPTY(q.stage), q.parity);
      q.next();
      if (lane == 0) {
        bar_expect(full, GROUPS * TILE);
        for (int i = 0; i < GROUPS; i++)
          copy_tile(to + i * TILE, query_map, full, w.head * 64, w.first + 64 * i, w.row);
      }
    }
    const int left = w.length - (w.tiles - 1) * KEYS;
    int dirty = -1;
    for (int i = 0; i < w.count; i++) {
      const u32 stage = ring.stage * STAGE;
      const int key = (w.from - i) * KEYS;
      bar_wait(base + K_EMPTY(ring.stage), ring.parity);
      if (lane == 0) {
        bar_expect(base + K_FULL(ring.stage), STAGE);
        copy_tile(base + KEYS_AT + stage, key_map, base + K_FULL(ring.stage),
                  (HEADS + w.head) * 64, key, w.row);
      }
      bar_wait(base + V_EMPTY(ring.stage), ring.parity);
      const bool raw = i == 0 && w.from == w.tiles - 1 && left < KEYS;
      const u32 bar = base + (raw ? RAW_FULL : V_FULL(ring.stage));
      if (lane == 0) {
        bar_expect(bar, STAGE);
        copy_tile(base + VALUES_AT + stage, key_map, bar, (2 * HEADS + w.head) * 64, key, w.row);
      }
      if (raw) dirty = ring.stage;
      // What lies past the item's length may be anything, and zero times infinity is no zero:
      // these rows are cleared once they are here, while the first scores are being made.
      if (dirty >= 0 && (i == 1 || w.count == 1)) {
        bar_wait(base + RAW_FULL, raw_parity);
        raw_parity ^= 1;
        for (int c = left * 8 + lane; c < KEYS * 8; c += 32)
          *(uint4 *)(memory + VALUES_AT + dirty * STAGE + c * 16) = make_uint4(0, 0, 0, 0);
        asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
        __syncwarp();
        if (lane == 0) bar_arrive(base + V_FULL(dirty));
        dirty = -1;
      }
      ring.next();
    }
    // The end of this item is the first that the next block does, so it is there by now.
    if (w.begins && !w.ends && w.tiles && lane == 0) {
      const int there = min(GROUPS, (w.length - w.first + 63) / 64);
      int *flag = flags + blockIdx.x + 1, seen;
      do {
        asm volatile("ld.acquire.gpu.global.u32 %0, [%1];" : "=r"(seen) : "l"(flag) : "memory");
      } while (seen != there);
      *flag = 0;  // for the next launch
      asm volatile("fence.proxy.async;" ::: "memory");
      const int bytes = there * PART * WARPGROUP * 4;
      const float *from = parts + (size_t)(blockIdx.x + 1) * GROUPS * PART * WARPGROUP;
      bar_expect(base + PART_FULL, bytes);
      asm volatile(
          "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];"
          :: "r"(base + PART_AT), "l"(from), "r"(bytes), "r"(base + PART_FULL) : "memory");
    }
  }
}

__device__ __forceinline__ void consume(unsigned char *memory, u32 base, Share share, int group,
                                        const int *lengths, u16 *out, int frames, float *parts,
                                        int *flags) {
  const int lane = threadIdx.x & 31, warp = (threadIdx.x >> 5) & 3;
  const bool tells = lane == 0;
  const u32 own = described(base + group * TILE, 1024), keys = described(base + KEYS_AT, 1024);
  const u32 vals = described(base + VALUES_AT, ONES_AT - VALUES_AT);
  const u32 vals_step = STAGE / 16 - ((u32)STAGE / 16 << 16);
  Ring<STAGES> k = {0, 0}, v = {0, 0};
  Ring<2> q = {0, 0};
  while (share.more()) {
    const Work w = share.next(lengths);
    const int first = w.first + 64 * group;
    const bool active = first < w.length;
    float o[OUTPUT], top[2] = {NEGATIVE, NEGATIVE};
    #pragma unroll
    for (int i = 0; i < OUTPUT; i++) o[i] = 0.f;
    if (active && w.count) {
      float s[SCORES], shrink[2];
      u32 p[STEPS][4];
      const u32 mine = own + q.stage * (GROUPS * TILE / 16);
      bar_wait(base + Q_FULL(q.stage), q.parity);
      bar_wait(base + K_FULL(k.stage), k.parity);
      wg_begin();
      scores(s, mine, keys + k.stage * (STAGE / 16));
      wg_wait<0, SCORES>(s);
      if (tells) bar_arrive(base + K_EMPTY(k.stage));
      k.next();
      const int left = w.length - (w.tiles - 1) * KEYS;
      if (w.from == w.tiles - 1 && left < KEYS) {
        #pragma unroll
        for (int j = 0; j < SCORES / 4; j++)
          #pragma unroll
          for (int e = 0; e < 4; e++)
            if (8 * j + 2 * (lane & 3) + (e & 1) >= left) s[4 * j + e] = NEGATIVE;
      }
      row_top(s, top);
      weigh(s, top);
      pack_weights(p, s);
      if (w.count > 1) bar_wait(base + K_FULL(k.stage), k.parity);
      // Scores of a tile, and then its exponentials, while the tile before meets its values.
      for (int i = 1; i < w.count; i++) {
        wg_begin();
        scores(s, mine, keys + k.stage * (STAGE / 16));
        bar_wait(base + V_FULL(v.stage), v.parity);
        values(o, p, vals + v.stage * vals_step);
        wg_wait<1, SCORES>(s);
        if (tells) bar_arrive(base + K_EMPTY(k.stage));
        k.next();
        const bool moved = follow(s, top, shrink);
        weigh(s, top);
        // Waiting in a loop for the next keys here (or for something that is there, at the end)
        // also keeps the assembler from moving the wait below in front of the exponentials.
        const bool more = i + 1 < w.count;
        bar_wait(base + (more ? K_FULL(k.stage) : V_FULL(v.stage)), more ? k.parity : v.parity);
        wg_wait<0, OUTPUT>(o);
        if (tells) bar_arrive(base + V_EMPTY(v.stage));
        v.next();
        if (moved) {
          #pragma unroll
          for (int x = 0; x < OUTPUT; x++) o[x] *= shrink[(x >> 1) & 1];
        }
        pack_weights(p, s);
      }
      if (tells) bar_arrive(base + Q_EMPTY(q.stage));
      bar_wait(base + V_FULL(v.stage), v.parity);
      wg_begin();
      values(o, p, vals + v.stage * vals_step);
      wg_wait<0, OUTPUT>(o);
      if (tells) bar_arrive(base + V_EMPTY(v.stage));
      v.next();
    } else if (w.count) {
      // No query of this group counts: it hands back what it is given. Not before the queries
      // are here: else it could hand back the next item's as well.
      bar_wait(base + Q_FULL(q.stage), q.parity);
      if (tells) bar_arrive(base + Q_EMPTY(q.stage));
      for (int i = 0; i < w.count; i++) {
        bar_wait(base + K_FULL(k.stage), k.parity);
        if (tells) bar_arrive(base + K_EMPTY(k.stage));
        k.next();
        bar_wait(base + V_FULL(v.stage), v.parity);
        if (tells) bar_arrive(base + V_EMPTY(v.stage));
        v.next();
      }
    }
    if (w.count) q.next();
    if (!w.begins) {
      if (active) leave(parts, flags, group, o, top);
      continue;
    }
    if (!w.ends && active) {
      bar_wait(base + PART_FULL, 0);
      join((const float *)(memory + PART_AT) + group * PART * WARPGROUP + threadIdx.x % WARPGROUP,
           o, top);
    }
    #pragma unroll
    for (int h = 0; h < 2; h++) {
      const int frame = first + warp * 16 + 8 * h + (lane >> 2);
      if (frame >= frames) continue;
      const bool real = frame < w.length;
      const float inverse = reciprocal(o[32 + 2 * h]);
      u16 *to = out + (((size_t)w.row * frames + frame) * HEADS + w.head) * 64 + 2 * (lane & 3);
      #pragma unroll
      for (int j = 0; j < 8; j++)
        *(u32 *)(to + 8 * j) =
            real ? pack(o[4 * j + 2 * h] * inverse, o[4 * j + 2 * h + 1] * inverse) : 0u;
    }
  }
}

// qkv: (rows, frames, 3, HEADS, 64), seen through the maps; out: (rows, frames, HEADS, 64), zero
// past a row's length. parts: (blocks, GROUPS, PART, 128) and flags: (blocks), zero between
// launches; both only where `split`, and then blocks are at most items and all at work at once.
extern "C" __global__ void __launch_bounds__(WARPGROUP * (GROUPS + 1), 1)
attend_hopper(const __grid_constant__ TensorMap query_map,
              const __grid_constant__ TensorMap key_map, const int *lengths, u16 *out, int frames,
              int items, int split, float *parts, int *flags) {
  extern __shared__ __align__(1024) unsigned char memory[];
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  const u32 base = (u32)__cvta_generic_to_shared(memory);
  const int group = __shfl_sync(0xffffffffu, threadIdx.x / WARPGROUP, 0);
  // The copying warp does this while the others fill the ones.
  if (threadIdx.x == WARPGROUP * GROUPS + 1) {
    asm volatile("prefetch.tensormap [%0];" :: "l"(&query_map) : "memory");
    asm volatile("prefetch.tensormap [%0];" :: "l"(&key_map) : "memory");
  }
  if (threadIdx.x == WARPGROUP * GROUPS) {
    bar_init(base + RAW_FULL, 1);
    bar_init(base + PART_FULL, 1);
    for (int s = 0; s < 2; s++) {
      bar_init(base + Q_FULL(s), 1);
      bar_init(base + Q_EMPTY(s), 4 * GROUPS);
    }
    for (int s = 0; s < STAGES; s++) {
      bar_init(base + K_FULL(s), 1);
      bar_init(base + V_FULL(s), 1);
      bar_init(base + K_EMPTY(s), 4 * GROUPS);
      bar_init(base + V_EMPTY(s), 4 * GROUPS);
    }
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  }
  if (threadIdx.x < WARPGROUP)
    *(uint4 *)(memory + ONES_AT + 16 * threadIdx.x) =
        make_uint4(0x3c003c00u, 0x3c003c00u, 0x3c003c00u, 0x3c003c00u);
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
  const Share share(frames, items, split);
  __syncwarp();
  meet_first(threadIdx.x / 32 != 4 * GROUPS, WARPGROUP * (GROUPS + 1));
  asm volatile("griddepcontrol.wait;" ::: "memory");
  if (group == GROUPS) {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 40;");
    if (threadIdx.x < WARPGROUP * GROUPS + 32)
      produce(memory, base, share, &query_map, &key_map, lengths, parts, flags);
  } else {
#if GROUPS == 3
    asm volatile("setmaxnreg.inc.sync.aligned.u32 152;");
#else
    asm volatile("setmaxnreg.inc.sync.aligned.u32 232;");
#endif
    consume(memory, base, share, group, lengths, out, frames, parts, flags);
  }
}
"""
