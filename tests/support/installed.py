"""A box with ishowtts-ops installed on it, and the daemon that runs there."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import httpx
import yaml

from ishowtts_ops.host import Host
from ishowtts_ops.measure.history import Baseline, open_history
from ishowtts_ops.measure.run import Run
from tests.support.container import Box
from tests.support.ports import free_port

CONFIG = "/etc/ishowtts-ops/config.yaml"
CLOCKS = "ishowtts-clocks.service"
DAEMON = "ishowtts-tts.service"
GUARD = "ishowtts-guard.service"
GUARD_TIMER = "ishowtts-guard.timer"
UNITS = (CLOCKS, DAEMON, GUARD, GUARD_TIMER)
DROP_IN = f"/etc/systemd/system/{DAEMON}.d/test.conf"

GPU = "/sys/class/devfreq/17000000.gpu"
CPU = "/sys/devices/system/cpu/cpufreq/policy0"
EMC = "/sys/kernel/debug/bpmp/debug/clk/emc"


@dataclass(frozen=True)
class Daemon:
    """The daemon of a box, over HTTP: a box shares this machine's network."""

    port: int

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path: str) -> httpx.Response | None:
        """The answer, or None while nobody listens."""
        try:
            return httpx.get(self._url(path), timeout=10, trust_env=False)
        except httpx.TransportError:
            return None

    def ready(self) -> bool:
        answer = self.get("/readyz")
        return answer is not None and answer.status_code == 200

    def say(self, text: str, **fields: object) -> httpx.Response:
        body = {"input": text, **fields}
        return httpx.post(self._url("/v1/audio/speech"), json=body, timeout=60, trust_env=False)


def configure(box: Box, **sections: Mapping[str, object]) -> Daemon:
    """Write the box's configuration: the tone engine on a port of its own, unless told otherwise.

    Args:
        sections: keys to set, by section: `daemon={"watchdog_seconds": 3}`.
    """
    port = free_port()
    wanted: dict[str, dict[str, object]] = {
        "engine": {"kind": "tone"},
        "daemon": {"port": port, "drain_seconds": 5},
        # What watches for changes would act on those that tests make. test_calendar.py has it on.
        "measure": {"calendar": False},
    }
    for name, keys in sections.items():
        wanted.setdefault(name, {}).update(keys)
    box.write(CONFIG, yaml.safe_dump(wanted))
    return Daemon(port)


def install(box: Box) -> None:
    """Install and boot once more: an AGX Orin whose GPU has been used takes MAXN with a reboot."""
    box.ops("install", "--yes")
    box.reboot()


def fault(box: Box, faults: str) -> None:
    """Let the tone engine misbehave: a drop-in, as an administrator writes one."""
    box.write(DROP_IN, f"[Service]\nEnvironment=ISHOWTTS_TONE_FAULT={faults}\n")
    box.systemctl("daemon-reload")


def mend(box: Box) -> None:
    """Take the faults back."""
    box.exec("rm", "-r", DROP_IN.rpartition("/")[0])
    box.systemctl("daemon-reload")


def envelope(text: str) -> dict[str, Any]:
    """The data of a command's `--json`."""
    found: dict[str, Any] = json.loads(text)
    assert found["version"] == 1
    return found


class Past(NamedTuple):
    """What a box has measured, oldest first."""

    runs: list[Run]
    baselines: list[Baseline]


def past(box: Box) -> Past:
    """The box's history, read from its file: who waits for a run looks often, and `bench history`
    would take a processor from that run."""
    with open_history(Host.at(box.root).read_only()) as history:
        return Past(history.runs(), history.baselines())


def mode_name(box: Box) -> str:
    """The power mode as NVIDIA's tool tells it."""
    first = box.exec("nvpmodel", "-q").stdout.splitlines()[0]
    return first.removeprefix("NV Power Mode: ")


def unlocked(box: Box) -> list[str]:
    """What is not locked, read from the hardware's attributes; empty when all is."""
    found = []
    for what, low, high in (
        ("gpu", f"{GPU}/min_freq", f"{GPU}/max_freq"),
        ("cpu", f"{CPU}/scaling_min_freq", f"{CPU}/scaling_max_freq"),
        ("emc", f"{EMC}/rate", f"{EMC}/max_rate"),
    ):
        if box.exec("cat", low).stdout != box.exec("cat", high).stdout:
            found.append(what)
    if box.exec("cat", f"{EMC}/mrq_rate_locked").stdout.strip() != "1":
        found.append("emc lock")
    return found


def complaining(box: Box) -> set[str]:
    """Ids of doctor's checks that complain."""
    report: dict[str, Any] = envelope(box.ops("doctor", "--json", check=False).stdout)["data"]
    return {f["check"] for f in report["findings"] if f["severity"] in ("warn", "error")}
