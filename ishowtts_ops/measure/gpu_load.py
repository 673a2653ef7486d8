"""How busy the GPU is: from sysfs, else from jtop where its service runs, else from tegrastats.

sysfs has it on Orin for everybody who may read the file. jtop's service reads as root and asks NVML
where sysfs has nothing (JetPack 7, Thor), and answers members of the group jtop. nvidia-smi is not
asked: on Orin it answers N/A.

jtop's client raises far more than its JtopException: it speaks multiprocessing's protocol, so a
service that ends, hangs, fails or is of another release comes out as EOFError, queue.Empty,
RemoteError, ValueError and others. Whatever it is, there is no jtop then, so `Exception` is caught
around each call of it, and nowhere else.
"""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.gpu import LOAD_PATTERNS, parse_load
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import BoxKind, Host

JTOP_SOCKET = "/run/jtop.sock"
JTOP_LIMIT_S = 5.0
"""For the first answer of jtop's service; its own client would wait for ever for one that hangs."""
JTOP_INTERVAL_S = 1.0
TEGRASTATS_LIMIT_S = 1.0


@dataclass(frozen=True)
class GpuLoad:
    """How busy the GPU is.

    Attributes:
        percent: 0 to 100.
        source: sysfs, jtop or tegrastats.
    """

    percent: float
    source: str


class Jtop:
    """An open connection to jtop's service.

    Args:
        client: a started `jtop.jtop`.
    """

    def __init__(self, client: Any) -> None:
        self._client = client

    def gpu_load(self) -> Maybe[GpuLoad]:
        """The busiest GPU, from the newest figures; why not, once the service is gone."""
        try:
            if not self._client.ok(spin=True):
                return Unknown("jtop's service has ended")
            return jtop_load(self._client.gpu)
        except Exception as error:  # noqa: BLE001 (the top of this file says why)
            return Unknown(f"jtop's service does not answer any more: {error!r}")


def gpu_load(host: Host, jtop: Jtop | None = None) -> Maybe[GpuLoad]:
    """The first source that knows."""
    found = sysfs_load(host)
    if isinstance(found, GpuLoad):
        return found
    if jtop is not None:
        from_jtop = jtop.gpu_load()
        if isinstance(from_jtop, GpuLoad):
            return from_jtop
    from_stats = tegrastats_load(host)
    return from_stats if isinstance(from_stats, GpuLoad) else found


def sysfs_load(host: Host) -> Maybe[GpuLoad]:
    """The devfreq device's own figure."""
    for pattern in LOAD_PATTERNS:
        for path in host.glob(pattern):
            try:
                percent = parse_load(host.read_text(path))
            except OSError as error:
                return Unknown(f"{path} cannot be read: {error.strerror}")
            return percent if isinstance(percent, Unknown) else GpuLoad(percent, "sysfs")
    return Unknown("no GPU load in sysfs")


def tegrastats_load(host: Host) -> Maybe[GpuLoad]:
    """One line of tegrastats, which prints for ever and is ended after it."""
    try:
        result = host.query(["tegrastats", "--interval", "200"], timeout=TEGRASTATS_LIMIT_S)
    except OpsError as error:
        return Unknown(error.message)
    return parse_tegrastats(result.stdout)


def parse_tegrastats(text: str) -> Maybe[GpuLoad]:
    """`… GR3D_FREQ 45%@[1300] …`, the newest line that has it."""
    found = re.findall(r"\bGR3D_FREQ (\d{1,3})%", text, re.ASCII)
    return GpuLoad(float(found[-1]), "tegrastats") if found else Unknown("tegrastats says nothing")


def jtop_load(gpus: Any) -> Maybe[GpuLoad]:
    """jtop's `gpu`: by name, each with `status.load` in percent."""
    try:
        return GpuLoad(max(float(one["status"]["load"]) for one in gpus.values()), "jtop")
    except (AttributeError, KeyError, TypeError, ValueError):
        return Unknown("jtop names no GPU load")


@contextlib.contextmanager
def jtop_connection(host: Host, limit_s: float = JTOP_LIMIT_S) -> Iterator[Jtop | None]:
    """A connection to jtop's service, or None where it does not run, not for us, or hangs."""
    if host.kind is not BoxKind.LIVE or not host.exists(JTOP_SOCKET):
        yield None
        return
    try:
        from jtop import jtop
    except ImportError:
        yield None
        return
    connected: list[Any] = []

    def connect() -> None:
        with contextlib.suppress(Exception):
            client = jtop(interval=JTOP_INTERVAL_S)
            client.start()
            connected.append(client)

    # Aside, because nothing in it has a time limit.
    thread = threading.Thread(target=connect, name="jtop", daemon=True)
    thread.start()
    thread.join(limit_s)
    if not connected:
        yield None
        return
    try:
        yield Jtop(connected[0])
    finally:
        with contextlib.suppress(Exception):
            connected[0].close()
