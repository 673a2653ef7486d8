"""Run-time compilation and launch of CUDA kernels through NVRTC and the driver, with ctypes.

NVRTC comes with every CUDA build of torch, also on Jetson, where Triton often does not and no
C compiler is installed. A kernel file compiles in well under a second and can be kept on disk.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from f5_tts.fast import count

_MAX_DYNAMIC_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
# Which tensor arguments a kernel both reads and writes.
_TWICE = {"add_norm": (0,), "rotate": (0,), "advance": (0,), "conv_second": (4,)}


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
    """Call a function that returns 0 on success."""
    code = getattr(library, name)(*arguments)
    if code:
        raise KernelsUnavailable(f"{name} returned {code}")


def compiled(source: str, target: str, defines: Mapping[str, int], cache_dir: Path | None) -> bytes:
    """`compile_source`, remembered in `cache_dir` under a hash of everything it depends on."""
    if cache_dir is None:
        return compile_source(source, target, defines)
    about = f"{torch.version.cuda}|{target}|{sorted(defines.items())}|{source}"
    path = (
        cache_dir / f"kernels-{hashlib.blake2b(about.encode(), digest_size=12).hexdigest()}.cubin"
    )
    if path.is_file():
        return path.read_bytes()
    cubin = compile_source(source, target, defines)
    cache_dir.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}")
    temporary.write_bytes(cubin)
    os.replace(temporary, path)
    return cubin


class Module:
    """Kernels loaded on the current device; launched on torch's current stream."""

    def __init__(self, cubin: bytes) -> None:
        self._driver = _library(["libcuda.so.1", "libcuda.so"])
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

    def launch(
        self,
        name: str,
        grid: tuple[int, int, int],
        threads: int,
        *arguments: torch.Tensor | int | None,
        shared: int = 0,
    ) -> None:
        """Launch `name`; tensors go as pointers, ints as 32-bit ints, None as a null pointer.

        `shared`: bytes of dynamic shared memory, the same at every launch of this kernel.
        """
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
        if count.counting():
            count.fused(
                name, [v for v in arguments if isinstance(v, torch.Tensor)], _TWICE.get(name, ())
            )
        values: list[Any] = [
            ctypes.c_int(value) if isinstance(value, int)
            else ctypes.c_void_p(None if value is None else value.data_ptr())
            for value in arguments
        ]  # fmt: skip
        pointers = (ctypes.c_void_p * len(values))(*(ctypes.addressof(value) for value in values))
        stream = torch.cuda.current_stream().cuda_stream
        check(
            self._driver,
            "cuLaunchKernel",
            function,
            *grid,
            threads,
            1,
            1,
            shared,
            stream,
            pointers,
            None,
        )
