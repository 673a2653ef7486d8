"""What the engine's interpreter can import, asked of that interpreter itself.

The quick look imports nothing heavy: versions come from the packages' metadata, and whether torch
was built for CUDA from `torch/version.py` (`cuda` is None in a CPU-only wheel; `__version__` there
carries the build tag, "2.11.0+cpu", which the metadata may leave out). The thorough look imports
everything and launches a kernel; it takes seconds on an Orin.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import BaseModel, ValidationError

from ishowtts_ops.facts.asking import ask, failure
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

QUICK_LIMIT_S = 10.0
THOROUGH_LIMIT_S = 45.0

REQUIRED = (
    "torch",
    "torchaudio",
    "vocos",
    "torchdiffeq",
    "x_transformers",
    "numpy",
    "soundfile",
    "safetensors",
    "pypinyin",
    "rjieba",
)
"""Modules the F5 engine imports."""

_MARK = "ishowtts-probe:"

_PROBE = r"""
import importlib, json, platform, sys
sys.path = [entry for entry in sys.path if entry]
import importlib.metadata, importlib.util, os.path, runpy
names, thorough = json.loads(sys.argv[1])
own = {"torch", "torchaudio"}

def look(name):
    spec = importlib.util.find_spec(name)
    if spec is None:
        return {"version": None, "cuda": None, "error": None}
    version = cuda = error = None
    if name in own and spec.origin:
        path = os.path.join(os.path.dirname(spec.origin), "version.py")
        try:
            told = runpy.run_path(path)
            version, cuda = told.get("__version__"), told.get("cuda")
        except Exception as problem:
            error = "%s: %s" % (path, problem)
    try:
        version = version or importlib.metadata.version(name.replace("_", "-"))
    except importlib.metadata.PackageNotFoundError:
        version = version or "unknown"
    if thorough:
        try:
            importlib.import_module(name)
        except BaseException as problem:
            error = "%s: %s" % (type(problem).__name__, problem)
    return {"version": version and str(version), "cuda": cuda and str(cuda), "error": error}

def attention(device):
    # One head of F5-TTS's size, without a mask, by each way torch has. None: it ran.
    import torch, warnings
    from torch.nn.attention import SDPBackend, sdpa_kernel
    ways = {"flash": "FLASH_ATTENTION", "efficient": "EFFICIENT_ATTENTION",
            "cudnn": "CUDNN_ATTENTION", "math": "MATH"}
    kind = torch.float16 if device == "cuda" else torch.float32
    x = torch.ones(1, 2, 128, 64, device=device, dtype=kind)
    told = {}
    for name, way in ways.items():
        if not hasattr(SDPBackend, way):
            continue
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                with sdpa_kernel(getattr(SDPBackend, way)):
                    torch.nn.functional.scaled_dot_product_attention(x, x, x).sum().item()
                told[name] = None
            except Exception as problem:
                told[name] = str(said[0].message if said else problem).splitlines()[0][:200]
    return told

def launch():
    told = {"available": False, "device": None, "arch_list": [], "error": None, "sdpa": {}}
    try:
        import torch
        told["available"] = torch.cuda.is_available()
        told["arch_list"] = list(torch.cuda.get_arch_list())
        if told["available"]:
            told["device"] = torch.cuda.get_device_name(0)
            one = torch.ones(64, 64, device="cuda", dtype=torch.float16)
            # Summed in fp32: the sum of 64 ** 3 ones is beyond what fp16 holds.
            if float((one @ one).float().sum().item()) != 64.0 ** 3:
                told["error"] = "a 64 x 64 matrix product came out wrong"
        import numpy
        torch.from_numpy(numpy.zeros(1))
        told["sdpa"] = attention("cuda" if told["available"] else "cpu")
    except BaseException as problem:
        told["error"] = "%s: %s" % (type(problem).__name__, problem)
    return told

packages = {name: look(name) for name in names}
kernel = launch() if thorough and packages["torch"]["version"] else None
answer = {
    "python": list(sys.version_info[:3]),
    "machine": platform.machine(),
    "packages": packages,
    "kernel": kernel,
}
print("MARK" + json.dumps(answer))
""".replace("MARK", _MARK)


@dataclass(frozen=True)
class NoInterpreter(Unknown):
    """The configured interpreter is not on the box: nothing to ask, and that is known."""


class Package(BaseModel, frozen=True):
    """A module of the engine.

    Attributes:
        version: None when it is not installed; "unknown" when it has no metadata.
        cuda: of torch, the CUDA version it was built for; None in a CPU-only build.
        error: why it cannot be imported (thorough look only).
    """

    version: str | None
    cuda: str | None = None
    error: str | None = None

    @property
    def installed(self) -> bool:
        return self.version is not None


class KernelLaunch(BaseModel, frozen=True):
    """What happened when torch was asked to use the GPU.

    Attributes:
        available: `torch.cuda.is_available()`.
        device: the GPU's name as torch gives it.
        arch_list: the architectures torch was compiled for ("sm_87" is Orin).
        error: what went wrong, numpy's bridge included.
        sdpa: torch's ways to compute attention ("flash", "efficient", "cudnn", "math") → None when
            it ran on this device, else why not.
    """

    available: bool
    device: str | None
    arch_list: tuple[str, ...]
    error: str | None
    sdpa: dict[str, str | None] = {}


class _Answer(BaseModel):
    python: tuple[int, int, int]
    machine: str
    packages: dict[str, Package]
    kernel: KernelLaunch | None


@dataclass(frozen=True)
class PythonEnv:
    """The engine's interpreter.

    Attributes:
        python: (3, 10, 12).
        machine: aarch64, x86_64 …
        packages: by module name, those of `REQUIRED`.
        kernel: the GPU tried out, or why it was not.
    """

    executable: str
    python: tuple[int, int, int]
    machine: str
    packages: Mapping[str, Package]
    kernel: Maybe[KernelLaunch]

    @property
    def missing(self) -> tuple[str, ...]:
        """Modules that are not installed."""
        return tuple(name for name in REQUIRED if not self.package(name).installed)

    @property
    def cpu_only(self) -> bool:
        """torch is there and was built without CUDA."""
        torch = self.package("torch")
        return torch.installed and torch.cuda is None

    @property
    def numpy_major(self) -> int | None:
        head = (self.package("numpy").version or "").split(".", 1)[0]
        return int(head) if head.isascii() and head.isdigit() else None

    def package(self, name: str) -> Package:
        return self.packages.get(name, Package(version=None))


def parse_answer(executable: str, text: str) -> Maybe[PythonEnv]:
    """The probe's output; whatever stands before its own line (warnings, banners) is ignored."""
    lines = [line for line in text.splitlines() if line.startswith(_MARK)]
    if not lines:
        return Unknown(f"{executable} printed no answer")
    try:
        answer = _Answer.model_validate(json.loads(lines[-1].removeprefix(_MARK)))
    except (ValueError, ValidationError, RecursionError):
        return Unknown(f"{executable} printed an answer that cannot be read")
    kernel: Maybe[KernelLaunch] = answer.kernel or Unknown("the GPU was not tried out")
    return PythonEnv(executable, answer.python, answer.machine, answer.packages, kernel)


def read_python_env(host: Host, executable: str, *, thorough: bool = False) -> Maybe[PythonEnv]:
    """Ask the interpreter at a box path.

    Args:
        thorough: import everything and launch a kernel on the GPU.
    """
    if not host.exists(executable):
        return NoInterpreter(f"there is no {executable}")
    limit = THOROUGH_LIMIT_S if thorough else QUICK_LIMIT_S
    request = json.dumps([REQUIRED, thorough])
    # -s: no user packages, as in the daemon's unit. -B: looking must not write .pyc files.
    argv = (executable, "-s", "-B", "-c", _PROBE, request)
    result = ask(host, argv, limit)
    if isinstance(result, Unknown):
        return result
    if not result.ok:
        return failure(result, last=True)
    return parse_answer(executable, result.stdout)
