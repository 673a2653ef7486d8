"""Runs CUDA C++ that has no inline assembly on the host: what a kernel computes, without a GPU.

The kernels are compiled by the host's C++ compiler against a few lines that say what a block, a
warp and a barrier are. Every thread of a block is a fibre of its own, in turns, so exchanges within
a warp and barriers mean what they mean on a GPU; blocks run one after the other. Arithmetic is the
host's: rounding may differ in the last bit. Speed and what a GPU does beside the arithmetic are not
shown by it.
"""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import torch

BEFORE = r"""
#include <setjmp.h>
#include <ucontext.h>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <vector>
typedef unsigned int u32;
struct alignas(16) uint4 { u32 x, y, z, w; };
struct alignas(8) uint2 { u32 x, y; };
struct alignas(8) float2 { float x, y; };
static inline uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }
static inline uint2 make_uint2(u32 x, u32 y) { return {x, y}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }
struct alignas(16) float4 { float x, y, z, w; };
static inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
struct Index { int x, y, z; };
static Index threadIdx, blockIdx, blockDim, gridDim;
#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __shared__ static
#define __align__(...)

// Made once and used by every block: a switch is then two jumps within this process.
struct Fibre { jmp_buf place; std::vector<char> stack; bool made, done; int turns; };
static std::vector<Fibre> fibres(1024);
static jmp_buf scheduler;
static int running;
static u32 slots[2][1024];
static std::function<void()> body;

static void next() {
  if (!_setjmp(fibres[running].place)) _longjmp(scheduler, 1);
}
// What lane `from` of this warp gave to the same exchange; a warp that is not whole is a mistake.
static bool apart;
static u32 given(int side, int from) {
  from |= running & ~31;
  if (from >= blockDim.x || fibres[from].turns < fibres[running].turns) apart = true;
  return slots[side][from];
}
static int give_to_warp(u32 bits) {
  const int side = fibres[running].turns++ & 1;
  slots[side][running] = bits;
  next();
  return side;
}
static float __shfl_xor_sync(u32, float v, int mask) {
  u32 bits;
  memcpy(&bits, &v, 4);
  bits = given(give_to_warp(bits), (running & 31) ^ mask);
  memcpy(&v, &bits, 4);
  return v;
}
static u32 __ballot_sync(u32, bool v) {
  const int side = give_to_warp(v);
  u32 all = 0;
  for (int lane = 0; lane < 32; lane++) all |= given(side, lane) << lane;
  return all;
}
static int arrived, generation;
static void __syncthreads() {
  const int mine = generation;
  if (++arrived == blockDim.x) { arrived = 0; generation++; }
  while (generation == mine) next();
}
static float __uint_as_float(u32 v) { float f; memcpy(&f, &v, 4); return f; }
static u32 __float_as_uint(float f) { u32 v; memcpy(&v, &f, 4); return v; }
static float rsqrtf(float v) { return 1.f / std::sqrt(v); }

static float widen(u32 h) {
  const u32 sign = (h & 0x8000u) << 16, power = h >> 10 & 31, rest = h & 1023;
  if (power == 31) return __uint_as_float(sign | 0x7f800000u | rest << 13);
  const float size = std::ldexp(rest + (power ? 1024.f : 0.f), (power ? (int)power : 1) - 25);
  return sign ? -size : size;
}
static u32 narrow(float f) {
  const u32 sign = __float_as_uint(f) >> 16 & 0x8000u;
  const float size = std::fabs(f);
  if (size != size) return sign | 0x7e00u;
  if (size >= 65520.f) return sign | 0x7c00u;
  int power;
  std::frexp(size, &power);
  if (power < -13 || size == 0.f) power = -13;
  // To the nearest, ties to even: the unit of a half of this size is 2^(power - 11).
  const u32 units = (u32)std::nearbyint(std::ldexp(size, 11 - power));
  return sign | (((u32)(power + 13) << 10) + units);
}
static void unpack(u32 v, float &a, float &b) { a = widen(v & 0xffffu); b = widen(v >> 16); }
static u32 pack(float a, float b) { return narrow(a) | narrow(b) << 16; }
"""

BEHIND = r"""
static void start() {
  for (;;) {
    body();
    fibres[running].done = true;
    next();
  }
}
static void go_on(Fibre &fibre) {
  if (_setjmp(scheduler)) return;
  if (fibre.made) _longjmp(fibre.place, 1);
  fibre.made = true;
  fibre.stack.resize(65536);
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = fibre.stack.data();
  context.uc_stack.ss_size = fibre.stack.size();
  context.uc_link = nullptr;
  makecontext(&context, start, 0);
  setcontext(&context);
}
template <class... A, size_t... I>
static std::function<void()> bound(void (*kernel)(A...), void **p, std::index_sequence<I...>) {
  return [=] { kernel(*(A *)p[I]...); };
}
template <class... A> static std::function<void()> with(void (*kernel)(A...), void **p) {
  return bound(kernel, p, std::index_sequence_for<A...>());
}
// Arguments as the driver's cuLaunchKernel takes them. 0 where there is no such kernel, or a warp
// exchanged something while some of its lanes were elsewhere.
extern "C" int launch(const char *name, int gx, int gy, int gz, int threads, void **arguments) {
  body = nullptr;
#define CASE(kernel) if (!strcmp(name, #kernel)) body = with(kernel, arguments);
  KERNEL_NAMES
  if (!body || threads > 1024) return 0;
  apart = false;
  gridDim = {gx, gy, gz};
  blockDim = {threads, 1, 1};
  for (int z = 0; z < gz; z++) for (int y = 0; y < gy; y++) for (int x = 0; x < gx; x++) {
    blockIdx = {x, y, z};
    arrived = 0;
    for (int t = 0; t < threads; t++) { fibres[t].done = false; fibres[t].turns = 0; }
    for (bool left = true; left;) {
      left = false;
      for (running = 0; running < threads; running++) {
        if (fibres[running].done) continue;
        threadIdx = {running, 0, 0};
        go_on(fibres[running]);
        left = left || !fibres[running].done;
      }
    }
  }
  return !apart;
}
"""


class HostModule:
    """`nvrtc.Module` for the host: the same call, the same grids, the same arguments."""

    def __init__(
        self, source: str, sizes: Mapping[str, int], names: Sequence[str], folder: Path
    ) -> None:
        """Compiles `source`, whose kernels are `names`. Skips the test without a compiler."""
        compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
        if compiler is None:
            pytest.skip("no C++ compiler here")
        cases = " ".join(f"CASE({name})" for name in names)
        file, library = folder / "kernels.cpp", folder / "kernels.so"
        file.write_text(BEFORE + source + BEHIND)
        argv = [compiler, "-std=c++17", "-O1", "-w", "-shared", "-fPIC", f"-DKERNEL_NAMES={cases}"]
        argv += [f"-D{name}={value}" for name, value in sizes.items()]
        done = subprocess.run(
            [*argv, str(file), "-o", str(library)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[:3000]
        self._library = ctypes.CDLL(str(library))
        self.launched: list[str] = []

    def launch(
        self,
        name: str,
        grid: tuple[int, int, int],
        threads: int,
        *arguments: torch.Tensor | int | None,
        work: tuple[int, int] | None = None,
    ) -> None:
        values = [
            ctypes.c_int(value)
            if isinstance(value, int)
            else ctypes.c_void_p(None if value is None else value.data_ptr())
            for value in arguments
        ]
        for value in arguments:
            assert not isinstance(value, torch.Tensor) or value.is_contiguous()
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        assert self._library.launch(name.encode(), *grid, threads, pointers), name
        self.launched.append(name)
