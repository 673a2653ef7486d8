"""Who uses the GPU and does its driver answer.

Clock limits of the GPU are in `clocks`; here are its load, the processes that hold its memory and
what `nvidia-smi` says. Load: the devfreq device's `load`, in per mille (as jetson-stats reads it).
Memory: `/sys/kernel/debug/nvmap/iovmm/clients`, which only root may read. On Orin `nvidia-smi`
answers the name and compute capability and `[N/A]` for nearly all else; JetPack 5 has none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ishowtts_ops.facts.asking import ask
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

NVMAP_CLIENTS = "/sys/kernel/debug/nvmap/iovmm/clients"
LOAD_PATTERNS = (
    "/sys/class/devfreq/*.gpu/device/load",
    "/sys/class/devfreq/*.ga10b/device/load",
    "/sys/devices/platform/bus@0/*.gpu/load",
    "/sys/devices/platform/*.gpu/load",
    "/sys/devices/*.ga10b/load",
)
SMI = (
    "nvidia-smi",
    "--query-gpu=name,compute_cap",
    "--format=csv,noheader",
)
SMI_LIMIT_S = 5.0

_UNITS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class GpuClient:
    """A process that holds GPU memory; `size` in bytes."""

    kind: str
    process: str
    pid: int
    size: int


@dataclass(frozen=True)
class SmiGpu:
    """What nvidia-smi calls the GPU, and its compute capability ("8.7" is Orin)."""

    name: str
    compute_cap: str


@dataclass(frozen=True)
class Gpu:
    """Attributes:
    load_percent: 0 to 100, at the moment of reading.
    clients: processes that hold GPU memory.
    smi: nvidia-smi's answer.
    """

    load_percent: Maybe[float]
    clients: Maybe[tuple[GpuClient, ...]]
    smi: Maybe[SmiGpu]


def parse_load(text: str) -> Maybe[float]:
    """A devfreq `load` file, 0 to 1000 per mille, as percent."""
    match = re.fullmatch(r"\s*(\d{1,6})\s*", text, re.ASCII)
    if match is None or int(match[1]) > 1000:
        return Unknown(f"GPU load reads {text.strip()[:20]!r}")
    return int(match[1]) / 10


def parse_nvmap_clients(text: str) -> Maybe[tuple[GpuClient, ...]]:
    """The table of nvmap's clients, largest first.

    A text without the table's header is unknown: an empty answer must not pass for "nobody".
    """
    lines = text.splitlines()
    if not any(re.match(r"CLIENT\s+PROCESS\s+PID\s+SIZE", line) for line in lines):
        return Unknown(f"{NVMAP_CLIENTS} holds no client table")
    clients = []
    for line in lines:
        match = re.fullmatch(
            r"(\S+)\s+(\S.*?)\s+(\d{1,10})\s+(\d{1,15})([BKMG]?)\s*", line, re.ASCII
        )
        if match:
            size = int(match[4]) * _UNITS[match[5]]
            clients.append(GpuClient(match[1], match[2], int(match[3]), size))
    return tuple(sorted(clients, key=lambda client: -client.size))


def parse_smi(text: str) -> Maybe[SmiGpu]:
    """The answer to `SMI`: one line, `Orin (nvgpu), 8.7`."""
    for line in text.splitlines():
        match = re.fullmatch(r"\s*(\S[^,]*?)\s*,\s*(\d{1,2}\.\d{1,2})\s*", line, re.ASCII)
        if match:
            return SmiGpu(match[1], match[2])
    first = next((line.strip() for line in text.splitlines() if line.strip()), "nothing")
    return Unknown(f"nvidia-smi answers {first[:80]!r}")


def read_gpu(host: Host) -> Gpu:
    """The GPU's load, clients and driver answer now."""
    return Gpu(_load(host), _clients(host), _smi(host))


def _load(host: Host) -> Maybe[float]:
    for pattern in LOAD_PATTERNS:
        for path in host.glob(pattern):
            try:
                return parse_load(host.read_text(path))
            except OSError as error:
                return Unknown(f"{path} cannot be read: {error.strerror}")
    return Unknown("no GPU has a load file in sysfs")


def _clients(host: Host) -> Maybe[tuple[GpuClient, ...]]:
    try:
        return parse_nvmap_clients(host.read_text(NVMAP_CLIENTS))
    except PermissionError:
        return Unknown(f"reading {NVMAP_CLIENTS} needs root")
    except OSError as error:
        return Unknown(f"{NVMAP_CLIENTS} cannot be read: {error.strerror}")


def _smi(host: Host) -> Maybe[SmiGpu]:
    result = ask(host, SMI, SMI_LIMIT_S)
    return result if isinstance(result, Unknown) else parse_smi(result.output)
