"""Alive, ready, metrics, and what the page at `/` draws: recent requests, clocks, temperatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import FastAPI
from fastapi.responses import JSONResponse, Response

from ishowtts_ops.daemon import metrics
from ishowtts_ops.daemon.openapi import described, errors
from ishowtts_ops.daemon.service import Service
from ishowtts_ops.daemon.watchdog import HUNG
from ishowtts_ops.host import Host

THERMAL = "/sys/class/thermal"
GPU_FOLDERS = (
    "/sys/class/devfreq/*.gpu",
    "/sys/class/devfreq/*.ga10b",
    "/sys/class/devfreq/gpu-gpc-*",
)
"""The GPU's devfreq device by release of L4T."""
CPU_FOLDERS = "/sys/devices/system/cpu/cpu*/cpufreq"
SWITCHED_OFF_C = -200.0
"""What a thermal zone of a block without power says is -256 degrees."""
T = TypeVar("T")
_THROTTLES = ("throttle", "cpufreq", "devfreq")


def add_state(app: FastAPI, service: Service, host: Host) -> None:
    """/livez, /readyz, /metrics, /v1/stats and /v1/box."""

    @app.get("/livez", responses={**described("Life"), **described("Life", 503)})
    async def livez() -> JSONResponse:
        """Alive means: this loop turns, and the engine's thread does not hang."""
        ailing = service.primary.condition.ailment(HUNG)
        if ailing:
            return JSONResponse({"status": "hung", "reasons": [ailing]}, 503)
        return JSONResponse({"status": "alive"})

    @app.get(
        "/readyz",
        responses={**described("Readiness"), **described("Readiness", 503), **errors(401)},
    )
    async def readyz() -> JSONResponse:
        """Ready means: every voice has spoken and the engine is well. Says why when not."""
        ready, story = service.readiness()
        return JSONResponse(story, 200 if ready else 503)

    @app.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {metrics.CONTENT_TYPE.split(";")[0]: {}}}},
    )
    async def prometheus() -> Response:
        """All metrics in Prometheus' text format."""
        service.accounts.flush()
        return Response(service.metrics.render(), headers={"Content-Type": metrics.CONTENT_TYPE})

    @app.get("/v1/stats", responses={**described("Stats"), **errors(401)})
    async def stats() -> JSONResponse:
        """The state and the recent requests, ready or not."""
        story = service.readiness()[1]
        wanted = ("status", "ready", "stage", "queue", "recent_rtf")
        row = {name: story[name] for name in wanted}
        return JSONResponse({**row, "recent": list(service.accounts.recent)})

    # Not async: sysfs files of a device that sleeps may take their time.
    @app.get("/v1/box", responses={**described("Box"), **errors(401)})
    def box() -> JSONResponse:
        """Clocks in MHz, temperatures in degrees Celsius, and what heat holds down; empty where
        the kernel does not say."""
        return JSONResponse(look(host))


def look(host: Host) -> dict[str, Any]:
    """What sysfs says of clocks and heat. Never raises."""
    clocks: dict[str, float] = {}
    limits: dict[str, float] = {}
    folders = [path for pattern in GPU_FOLDERS for path in _glob(host, pattern)]
    for folder in folders[:1]:
        _put(clocks, "gpu", _number(host, f"{folder}/cur_freq"), 1e-6)
        _put(limits, "gpu", _number(host, f"{folder}/max_freq"), 1e-6)
    cores = _glob(host, CPU_FOLDERS)
    for name, file, rows in (
        ("cpu", "scaling_cur_freq", clocks),
        ("cpu", "scaling_max_freq", limits),
    ):
        rates = [rate for core in cores if (rate := _number(host, f"{core}/{file}")) is not None]
        _put(rows, name, max(rates, default=None), 1e-3)
    return {
        "clocks_mhz": clocks,
        "limits_mhz": limits,
        "temperatures_c": _temperatures(host),
        "throttling": _throttling(host),
    }


def _temperatures(host: Host) -> dict[str, float]:
    found: dict[str, float] = {}
    for zone in _glob(host, f"{THERMAL}/thermal_zone*"):
        name = _text(host, f"{zone}/type")
        celsius = _number(host, f"{zone}/temp")
        if name and celsius is not None and celsius / 1000 > SWITCHED_OFF_C:
            found[name.lower().removesuffix("-thermal").removesuffix("-therm")] = celsius / 1000
    return found


def _throttling(host: Host) -> list[str]:
    found = []
    for device in _glob(host, f"{THERMAL}/cooling_device*"):
        name = _text(host, f"{device}/type") or ""
        if any(word in name for word in _THROTTLES) and _number(host, f"{device}/cur_state"):
            found.append(name)
    return found


def _put(rows: dict[str, float], name: str, value: float | None, scale: float) -> None:
    if value is not None:
        rows[name] = round(value * scale, 3)


def _glob(host: Host, pattern: str) -> list[str]:
    return _quietly(lambda: host.glob(pattern)) or []


def _text(host: Host, path: str) -> str | None:
    return _quietly(lambda: host.read_text(path).strip())


def _number(host: Host, path: str) -> float | None:
    return _quietly(lambda: float(host.read_text(path)))


def _quietly(read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (OSError, ValueError):
        return None
