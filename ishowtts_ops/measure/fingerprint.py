"""What a run was taken on: the machine, the software, and what happened to them meanwhile.

Two runs that differ in speed are explained by where their fingerprints differ. Clocks, heat and
power are read before and after, and looked at between passes.
"""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ishowtts_ops import __version__
from ishowtts_ops.config import DEFAULT_NFE, MANIFEST_PATH, Manifest, Settings
from ishowtts_ops.facts import clocks, identity, power, rails, thermal
from ishowtts_ops.facts.engine_python import in_use
from ishowtts_ops.facts.python_env import PythonEnv, read_python_env
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import Host

Value = str | int | float | bool | None
Digest = Callable[[str], str | None]
"""Gives the SHA-256 of a file by its box path; None where it cannot be read."""

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Moment:
    """Clocks, heat and power at one time.

    Attributes:
        jetson: on any other machine there is no lock to speak of.
        mode: the power mode's name.
        loose: clocks known not to be locked.
        lock_unknown: why it is not known whether all are; empty when it is.
        clocks: "CPU 2202 MHz, GPU 1300 MHz, EMC 3199 MHz"; what can be read of it.
        gpu_hz: the GPU's highest rate allowed; for the floor.
        staged: another mode waits for a reboot, after which figures are others.
        temperatures: °C by zone.
        throttles: cooling devices that hold a clock down.
        events: over-current counters since boot, by number.
    """

    jetson: bool
    mode: str
    loose: tuple[str, ...]
    lock_unknown: str
    clocks: str
    gpu_hz: int | None
    staged: bool = False
    temperatures: Mapping[str, float] = field(default_factory=dict)
    throttles: tuple[str, ...] = ()
    events: Mapping[str, int] = field(default_factory=dict)

    @property
    def locked(self) -> str:
        if not self.jetson:
            return "not a Jetson"
        if self.loose:
            return f"no: {', '.join(self.loose)}"
        return "unknown" if self.lock_unknown else "yes"


@dataclass(frozen=True)
class Fingerprint:
    """A run's machine and software.

    Attributes:
        software: what differs only when somebody changes it; by name.
        before, after: the machine at both ends.
        during: throttles and lost locks seen between passes.
    """

    software: Mapping[str, Value]
    before: Moment
    after: Moment
    during: tuple[str, ...] = ()

    @property
    def throttle_events(self) -> dict[str, int]:
        """Over-current events between both ends, where there were any."""
        grown = {
            name: count - self.before.events.get(name, 0)
            for name, count in self.after.events.items()
        }
        return {name: count for name, count in grown.items() if count > 0}

    def rows(self) -> dict[str, Value]:
        """Everything that is compared between two runs, by name."""
        return {
            **self.software,
            "power mode": self.before.mode,
            "clocks locked": self.before.locked,
            "clocks": self.before.clocks,
        }

    def until(self, later: Fingerprint) -> Fingerprint:
        """From this one's beginning to the later one's end."""
        during = tuple(dict.fromkeys([*self.during, *later.during]))
        return Fingerprint(self.software, self.before, later.after, during)

    def to_json(self) -> dict[str, Any]:
        return {
            "software": dict(self.software),
            "before": vars(self.before),
            "after": vars(self.after),
            "during": list(self.during),
        }

    @classmethod
    def from_json(cls, body: Any) -> Fingerprint:
        def moment(row: Any) -> Moment:
            lists = {name: tuple(row[name]) for name in ("loose", "throttles")}
            return Moment(**{**row, **lists})

        during = tuple(body["during"])
        return cls(body["software"], moment(body["before"]), moment(body["after"]), during)


@dataclass(frozen=True)
class Difference:
    """One thing that is not the same in two runs."""

    name: str
    first: Value
    second: Value

    def __str__(self) -> str:
        return f"{self.name}: {self.first} → {self.second}"


def differences(first: Fingerprint, second: Fingerprint) -> tuple[Difference, ...]:
    """Every row that differs, in order; what one side lacks counts as None."""
    a, b = first.rows(), second.rows()
    names = [*a, *(name for name in b if name not in a)]
    return tuple(
        Difference(name, a.get(name), b.get(name)) for name in names if a.get(name) != b.get(name)
    )


def look(host: Host) -> Moment:
    """Clocks, heat and power now; never raises."""
    who = identity.read(host)
    now = power.read(host)
    clock = clocks.read(host)
    heat = thermal.read(host)
    supply = rails.read(host)
    locked = clock.locked
    gpu_hz = clock.gpu.max_hz if isinstance(clock.gpu, clocks.GpuClock) else None
    return Moment(
        jetson=who.is_jetson,
        mode=_mode(now) if who.is_jetson else "not a Jetson",
        staged=now.reboot_pending is True,
        loose=clock.loose if who.is_jetson else (),
        lock_unknown=locked.reason if isinstance(locked, Unknown) and who.is_jetson else "",
        clocks=_clocks(clock),
        gpu_hz=gpu_hz if isinstance(gpu_hz, int) else None,
        temperatures={
            zone.name: zone.temperature_mc / 1000
            for zone in heat.zones
            if isinstance(zone.temperature_mc, int)
        },
        throttles=tuple(device.name for device in heat.active_throttles),
        events={}
        if isinstance(supply.events, Unknown)
        else {f"OC{number}": count for number, count in supply.events.items()},
    )


def glance(host: Host) -> tuple[str, ...]:
    """What spoils a run, looked for between passes: cheap, reads a few dozen small files."""
    seen = [f"heat throttles {device.name}" for device in thermal.read(host).active_throttles]
    seen += [f"{name} clock not locked" for name in clocks.read(host).loose]
    return tuple(seen)


def software(
    host: Host,
    settings: Settings,
    *,
    engine: str,
    device: str,
    series: str,
    f5_version: str,
    digest: Digest | None = None,
    loaded: Manifest | None = None,
) -> dict[str, Value]:
    """The software side.

    Args:
        series: id of the patch series that is applied, or what stands in its place.
        f5_version: of the sources that are used.
        digest: content hash of a file by box path; see `Digests`.
        loaded: what the engine was loaded with; None is what install told the daemon.
    """
    who = identity.read(host)
    manifest = loaded or read_manifest(host)
    env = read_python_env(host, in_use(host, settings))
    rows: dict[str, Value] = {
        "module": who.name if who.is_jetson else f"{platform.machine()} machine",
        "L4T": _text(who.release) if who.is_jetson else "none",
        "ishowtts-ops": __version__,
        "engine": engine,
        "device": device,
    }
    if engine == "f5":
        packages = env.packages if isinstance(env, PythonEnv) else {}
        torch = packages.get("torch")
        rows |= {
            "torch": torch.version if torch else _why(env),
            "CUDA": torch.cuda if torch else None,
            "F5-TTS": f5_version,
            "series": series,
            "model": _model(manifest),
            "NFE": manifest.nfe if manifest else settings.f5.nfe or DEFAULT_NFE,
            "CFG": manifest.cfg_strength if manifest else settings.f5.cfg_strength,
            "weights": _weights(manifest, digest or content_hash(host)),
        }
    for voice in manifest.voices if manifest else ():
        if engine == "f5":
            rows[f"voice {voice.id}"] = _voice(voice.text, voice.audio, content_hash(host))
    return rows


def marks(found: Fingerprint) -> tuple[str, ...]:
    """Why a run on this machine must not be a baseline: sentences; empty when it may."""
    before, after = found.before, found.after
    why: list[str] = []
    loose = sorted({*before.loose, *after.loose})
    if loose:
        why.append(f"clocks were not locked: {', '.join(loose)}")
    elif before.lock_unknown:
        why.append(f"it is not known whether the clocks were locked ({before.lock_unknown})")
    throttles = sorted({*before.throttles, *after.throttles})
    if throttles:
        why.append(f"heat held clocks down: {', '.join(throttles)}")
    why += [f"between passes: {what}" for what in found.during if not throttles and not loose]
    events = found.throttle_events
    if events:
        counts = ", ".join(f"{name} {count}x" for name, count in events.items())
        why.append(f"over-current events happened: {counts}")
    if after.staged:
        why.append("a power mode is staged and comes with the next reboot")
    if before.mode != after.mode:
        why.append(f"the power mode changed from {before.mode} to {after.mode}")
    return tuple(why)


def way_out(found: Fingerprint) -> str:
    """What to do about its `marks`: the next step to a run without them."""
    ends = (found.before, found.after)
    if any(moment.staged for moment in ends):
        return "`sudo reboot` brings the power mode into force; run this again then."
    if any(moment.loose for moment in ends) or any("clock" in seen for seen in found.during):
        return "`sudo ishowtts-ops power lock` locks them; run this again then."
    if any(moment.lock_unknown for moment in ends):
        return "`sudo ishowtts-ops power status` says what can be known of them."
    if any(moment.throttles for moment in ends) or found.during:
        return "Let the box cool (`ishowtts-ops monitor` shows when), and run this again."
    if found.throttle_events:
        return "`ishowtts-ops doctor` says what draws so much power."
    return "Run this again in a quiet moment."


def content_hash(host: Host) -> Digest:
    """The plain way to a digest: read the whole file."""

    def digest(box_path: str) -> str | None:
        total = hashlib.sha256()
        try:
            with host.path(box_path).open("rb") as file:
                while block := file.read(_BLOCK):
                    total.update(block)
        except OSError:
            return None
        return total.hexdigest()

    return digest


def read_manifest(host: Host) -> Manifest | None:
    """What install told the daemon; None where it did not, or the file is damaged."""
    if not host.is_file(MANIFEST_PATH):
        return None
    try:
        return Manifest.model_validate_json(host.read_text(MANIFEST_PATH))
    except ValueError:
        return None


def _model(manifest: Manifest | None) -> Value:
    """The preset's name in f5_tts/configs; a network of another shape has none."""
    if manifest is None:
        return None
    return manifest.model if isinstance(manifest.model, str) else "a shape of its own"


def _weights(manifest: Manifest | None, digest: Digest) -> str:
    if manifest is None:
        return "no manifest"
    if manifest.random_seed is not None:
        shape = hashlib.sha256(repr(manifest.model).encode()).hexdigest()[:8]
        return f"random, seed {manifest.random_seed}, shape {shape}"
    if manifest.ckpt_file is None:
        return "none"
    found = digest(manifest.ckpt_file)
    return found[:16] if found else f"{manifest.ckpt_file} cannot be read"


def _voice(text: str, audio: str, digest: Digest) -> str:
    found = digest(audio)
    words = hashlib.sha256(text.encode()).hexdigest()[:8]
    return f"{found[:16] if found else 'not readable'}-{words}"


def _clocks(found: clocks.ClockFacts) -> str:
    parts = []
    tops = [p.max_khz for p in found.cpus if isinstance(p.max_khz, int)]
    if tops:
        parts.append(f"CPU {round(max(tops) / 1e3)} MHz")
    if isinstance(found.gpu, clocks.GpuClock) and isinstance(found.gpu.max_hz, int):
        parts.append(f"GPU {round(found.gpu.max_hz / 1e6)} MHz")
    emc = found.emc.top_hz
    if isinstance(emc, int):
        parts.append(f"EMC {round(emc / 1e6)} MHz")
    return ", ".join(parts) or "cannot be read"


def _mode(now: power.PowerFacts) -> str:
    """The mode that is in force, which is another one than is set while a reboot is due."""
    name = _text(now.mode_name)
    if now.reboot_pending is True:
        real = now.effective.name if not isinstance(now.effective, Unknown) else "another mode"
        return f"{real} ({name} after a reboot)"
    return name


def _text(value: Maybe[Any]) -> str:
    return "unknown" if isinstance(value, Unknown) else str(value)


def _why(env: Maybe[PythonEnv]) -> str:
    return env.reason if isinstance(env, Unknown) else "not installed"


def hottest(moments: Iterable[Moment]) -> float | None:
    """The highest temperature of all zones, °C."""
    found = [degrees for moment in moments for degrees in moment.temperatures.values()]
    return max(found, default=None)
