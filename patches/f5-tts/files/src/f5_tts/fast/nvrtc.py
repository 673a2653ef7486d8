"""Run-time compilation and launch of CUDA kernels through NVRTC and the driver, with ctypes.

NVRTC comes with every CUDA build of torch, also on Jetson, where Triton often does not and no
C compiler is installed. A kernel file compiles in well under a second and can be kept on disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import logging
import os
import tempfile
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import torch
from f5_tts.fast import count

_MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
_CLUSTER, _DEPENDENT = 4, 6  # CU_LAUNCH_ATTRIBUTE_{CLUSTER_DIMENSION, PROGRAMMATIC_STREAM_...}
_FLOAT16, _SWIZZLE_128, _PROMOTE_256 = 6, 3, 3  # CU_TENSOR_MAP_{DATA_TYPE, SWIZZLE, L2_PROMOTION}
# Which tensor arguments a kernel both reads and writes.
_TWICE = {
    "add_norm": (0,), "rotate": (0,), "advance": (0,), "conv_second": (4,),
    "grn_scale": (0,), "clear_frames": (0,),
}  # fmt: skip


# What kernels for any chip are compiled for at the least.
MIN_CAPABILITY = (8, 0)
_DRIVER = ("libcuda.so.1", "libcuda.so")
# A driver from here on captures dependent launches in graphs.
_DEPENDENT_IN_GRAPHS = 12030
_DIGEST = 16

log = logging.getLogger(__name__)


class KernelsUnavailable(RuntimeError):
    """No NVRTC, no driver, or a GPU the kernels are not for. The sentence says which."""


def _library(names: Sequence[str]) -> ctypes.CDLL:
    problems = []
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            problems.append(str(error))
    raise KernelsUnavailable("; ".join(problems))


def _nvrtc_names() -> list[str]:
    """Where NVRTC may be: loaded by torch, beside torch's other CUDA wheels, or in the system."""
    major = (torch.version.cuda or "12").partition(".")[0]
    plain = [f"libnvrtc.so.{major}", "libnvrtc.so.12", "libnvrtc.so.11.2", "libnvrtc.so"]
    site = Path(torch.__file__).resolve().parents[1]
    found = sorted(site.glob("nvidia/*/lib/libnvrtc.so.*"), reverse=True)
    found += sorted(Path("/usr/local/cuda/lib64").glob("libnvrtc.so.*"))
    return [*plain, *(str(path) for path in found if "builtins" not in path.name)]


def compile_source(source: str, target: str, defines: Mapping[str, int]) -> bytes:
    """Machine code for a target such as `sm_87`. KernelsUnavailable carries the log."""
    nvrtc = _library(_nvrtc_names())
    program = ctypes.c_void_p()
    check(
        nvrtc,
        "nvrtcCreateProgram",
        ctypes.byref(program),
        source.encode(),
        b"f5_fast.cu",
        0,
        None,
        None,
    )
    options = [f"--gpu-architecture={target}", "--std=c++17"]
    options += [f"-D{name}={value}" for name, value in defines.items()]
    array = (ctypes.c_char_p * len(options))(*(option.encode() for option in options))
    try:
        if nvrtc.nvrtcCompileProgram(program, len(options), array):
            size = ctypes.c_size_t()
            nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
            log = ctypes.create_string_buffer(size.value)
            nvrtc.nvrtcGetProgramLog(program, log)
            raise KernelsUnavailable(log.value.decode(errors="replace")[:2000])
        size = ctypes.c_size_t()
        check(nvrtc, "nvrtcGetCUBINSize", program, ctypes.byref(size))
        cubin = ctypes.create_string_buffer(size.value)
        check(nvrtc, "nvrtcGetCUBIN", program, cubin)
        return cubin.raw
    finally:
        nvrtc.nvrtcDestroyProgram(ctypes.byref(program))


def check(library: ctypes.CDLL, name: str, *arguments: Any) -> None:
    """Call a function that returns 0 on success. KernelsUnavailable where it does not, or where
    the library is too old to have it; the driver's own words for what is wrong are in it, which
    are those that torch uses ("out of memory", "an illegal memory access was encountered")."""
    function = getattr(library, name, None)
    if function is None:
        raise KernelsUnavailable(f"{library._name} has no {name}")
    code = function(*arguments)
    if code:
        raise KernelsUnavailable(f"{_meaning(library, code)}{name} returned {code}")


def _meaning(library: ctypes.CDLL, code: int) -> str:
    """What the driver says about an error of its own."""
    explain = getattr(library, "cuGetErrorString", None)
    words = ctypes.c_char_p()
    if explain is None or explain(code, ctypes.byref(words)) or not words.value:
        return ""
    return f"CUDA error: {words.value.decode(errors='replace')}: "


def dependent_in_graphs() -> bool:
    """Whether the driver can capture dependent launches."""
    version = ctypes.c_int()
    check(_library(_DRIVER), "cuDriverGetVersion", ctypes.byref(version))
    return version.value >= _DEPENDENT_IN_GRAPHS


def compiled(source: str, target: str, defines: Mapping[str, int], cache_dir: Path | None) -> bytes:
    """`compile_source`, remembered under a hash of everything it depends on: in `cache_dir`, or
    for as long as this process lives. A file that was cut short is made again, and a folder that
    takes no files only makes the next start slower."""
    about = f"{torch.version.cuda}|{target}|{sorted(defines.items())}|{source}"
    name = f"kernels-{hashlib.blake2b(about.encode(), digest_size=12).hexdigest()}.cubin"
    if cache_dir is None:
        if name not in _COMPILED:
            _COMPILED[name] = compile_source(source, target, defines)
        return _COMPILED[name]
    path = cache_dir / name
    kept = _kept(path)
    if kept is not None:
        return kept
    cubin = compile_source(source, target, defines)
    try:
        _keep(path, cubin)
    except OSError as error:
        log.warning("compiled kernels are not kept in %s: %s", cache_dir, error)
    return cubin


def compiled_all(
    wanted: Sequence[tuple[str, Mapping[str, int]]], target: str, cache_dir: Path | None
) -> list[bytes]:
    """`compiled` for several sources with their constants, side by side: NVRTC works outside the
    interpreter's lock."""
    with ThreadPoolExecutor(max_workers=8) as pool:
        return list(pool.map(lambda one: compiled(one[0], target, one[1], cache_dir), wanted))


def _kept(path: Path) -> bytes | None:
    """What `_keep` wrote; None where there is nothing, or not all of it."""
    with contextlib.suppress(OSError):
        data = path.read_bytes()
        digest, cubin = data[:_DIGEST], data[_DIGEST:]
        if cubin and hashlib.blake2b(cubin, digest_size=_DIGEST).digest() == digest:
            return cubin
    return None


def _keep(path: Path, cubin: bytes) -> None:
    """A file of its own for every writer, whether thread or process."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            os.fchmod(handle, 0o644)
            file.write(hashlib.blake2b(cubin, digest_size=_DIGEST).digest() + cubin)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


_COMPILED: dict[str, bytes] = {}


class _Attribute(ctypes.Structure):
    """CUlaunchAttribute."""

    _fields_ = [("id", ctypes.c_uint), ("pad", ctypes.c_uint), ("value", ctypes.c_uint * 16)]


class _Config(ctypes.Structure):
    """CUlaunchConfig."""

    _fields_ = [
        ("grid", ctypes.c_uint * 3),
        ("block", ctypes.c_uint * 3),
        ("shared", ctypes.c_uint),
        ("stream", ctypes.c_void_p),
        ("attributes", ctypes.POINTER(_Attribute)),
        ("count", ctypes.c_uint),
    ]


class TensorMap:
    """How the copy engine of compute capability 9.0 sees a tensor; passed to a kernel by value.

    Boxes are `rows` x 64 halves and lie in shared memory under the 128-byte swizzle.
    """

    def __init__(self, matrix: torch.Tensor, rows: int) -> None:
        """`matrix`: (..., rows, columns) fp16 with rows apart by a multiple of 16 bytes."""
        rank = matrix.dim()
        apart = [2 * stride for stride in matrix.stride()[-2::-1]]
        buffer = (ctypes.c_ubyte * 256)()
        # The driver writes to 64-byte boundaries only; ctypes promises 16.
        start = -ctypes.addressof(buffer) % 128
        self._buffer, self.words = buffer, (ctypes.c_ubyte * 128).from_buffer(buffer, start)
        check(
            _library(_DRIVER),
            "cuTensorMapEncodeTiled",
            ctypes.byref(self.words),
            _FLOAT16,
            rank,
            ctypes.c_void_p(matrix.data_ptr()),
            (ctypes.c_uint64 * rank)(*reversed(matrix.shape)),
            (ctypes.c_uint64 * (rank - 1))(*apart),
            (ctypes.c_uint32 * rank)(64, rows, *[1] * (rank - 2)),
            (ctypes.c_uint32 * rank)(*[1] * rank),
            0,
            _SWIZZLE_128,
            _PROMOTE_256,
            0,
        )


class Launches(Protocol):
    """`Module`, as kernels for any chip use it."""

    def launch(
        self,
        name: str,
        grid: tuple[int, int, int],
        threads: int,
        *arguments: torch.Tensor | int | None,
        work: tuple[int, int] | None = None,
    ) -> None: ...


class Module:
    """Kernels loaded on the current device; launched on torch's current stream."""

    def __init__(self, cubin: bytes) -> None:
        self._driver = _library(_DRIVER)
        # The driver works on the thread's current context, which is torch's once it is in use.
        torch.cuda.current_stream().synchronize()
        torch.zeros(1, device="cuda")
        self._module = ctypes.c_void_p()
        self._cubin = cubin
        check(self._driver, "cuModuleLoadData", ctypes.byref(self._module), cubin)
        self._functions: dict[str, ctypes.c_void_p] = {}
        self._driver.cuLaunchKernel.argtypes = [
            ctypes.c_void_p, *([ctypes.c_uint] * 7), *([ctypes.c_void_p] * 3),
        ]  # fmt: skip

    def ready(self, name: str, shared: int = 0) -> None:
        """Find a kernel, and let it have so much shared memory: what can fail without a launch."""
        self._function(name, shared)

    def launch(
        self,
        name: str,
        grid: tuple[int, int, int],
        threads: int,
        *arguments: torch.Tensor | TensorMap | bytes | int | None,
        shared: int = 0,
        cluster: int = 1,
        dependent: bool = False,
        work: tuple[int, int] | None = None,
    ) -> None:
        """Launch `name`; tensors go as pointers, ints as 32-bit ints, None as a null pointer,
        maps and bytes by value.

        `shared`: bytes of dynamic shared memory, the same at every launch of this kernel.
        `cluster`: neighbouring blocks along x that share memory. `dependent`: may be set up while
        the kernel before it ends; the kernel itself waits for what that one writes. `work`: bytes
        moved and operations, where the tensors among the arguments do not say it all.
        """
        function = self._function(name, shared)
        values: list[Any] = []
        tensors: list[torch.Tensor] = []
        for value in arguments:
            if isinstance(value, TensorMap):
                values.append(value.words)
            elif isinstance(value, bytes):
                values.append(ctypes.create_string_buffer(value, len(value)))
            elif isinstance(value, int):
                values.append(ctypes.c_int(value))
            else:
                values.append(ctypes.c_void_p(None if value is None else value.data_ptr()))
                if value is not None:
                    tensors.append(value)
        if count.counting():
            count.fused(name, tensors, _TWICE.get(name, ()), work)
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        attributes = (_Attribute * 2)()
        used = 0
        if cluster > 1:
            attributes[used].id = _CLUSTER
            attributes[used].value[:3] = [cluster, 1, 1]
            used += 1
        if dependent:
            attributes[used].id = _DEPENDENT
            attributes[used].value[0] = 1
            used += 1
        stream = torch.cuda.current_stream().cuda_stream
        if not used:
            check(
                self._driver, "cuLaunchKernel", function, *grid, threads, 1, 1, shared, stream,
                pointers, None,
            )  # fmt: skip
            return
        config = _Config(
            grid=(ctypes.c_uint * 3)(*grid),
            block=(ctypes.c_uint * 3)(threads, 1, 1),
            shared=shared,
            stream=stream,
            attributes=attributes,
            count=used,
        )
        check(self._driver, "cuLaunchKernelEx", ctypes.byref(config), function, pointers, None)

    def _function(self, name: str, shared: int) -> ctypes.c_void_p:
        function = self._functions.get(name)
        if function is None:
            function = ctypes.c_void_p()
            check(
                self._driver,
                "cuModuleGetFunction",
                ctypes.byref(function),
                self._module,
                name.encode(),
            )
            if shared:
                check(self._driver, "cuFuncSetAttribute", function, _MAX_DYNAMIC_SHARED, shared)
            self._functions[name] = function
        return function


def blocks_of(count: int, size: int) -> int:
    """Blocks of `size` that cover `count`."""
    return -(-count // size)


def capability_of(device: torch.device) -> tuple[int, int]:
    """Compute capability of the device that weights are on. KernelsUnavailable where kernels would
    be launched on another."""
    current = torch.cuda.current_device()
    if device.index not in (None, current):
        raise KernelsUnavailable(
            f"the weights are on {device}, and kernels are launched on the current device, "
            f"{current}; set CUDA_VISIBLE_DEVICES instead"
        )
    return torch.cuda.get_device_capability(device)


def loaded(
    source: str,
    names: Sequence[str],
    defines: Mapping[str, int],
    device: torch.device,
    cache_dir: Path | None,
) -> Module:
    """Kernels for any chip on `device`, compiled or read from `cache_dir`, each of them found, so
    that nothing is looked up while a graph is captured. KernelsUnavailable says why not."""
    capability = capability_of(device)
    if capability < MIN_CAPABILITY:
        raise KernelsUnavailable(f"no kernels for compute capability {capability}")
    target = f"sm_{capability[0]}{capability[1]}"
    module = Module(compiled(source, target, defines, cache_dir))
    for name in names:
        module.ready(name)
    return module
