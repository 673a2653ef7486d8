"""Power mode and clocks as they were before us: recorded before the first change, put back at
uninstall, byte for byte, as far as the kernel lets us without a reboot."""

from __future__ import annotations

import base64
import errno
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from ishowtts_ops.facts import clocks as clock_facts
from ishowtts_ops.facts import power as power_facts
from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.nvpmodel import CONF_PATH, STATUS_PATH, Conf, Mode, parse_conf
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.provision.power_tools import Outcome, set_mode
from ishowtts_ops.steps import Ledger, Progress

NOTE = "power"
_PASSES = 3
"""The kernel refuses a minimum above the maximum; a second pass finds the other one moved."""
_FULL_PWM = b"255"
_MASK = "_pg_mask"


@dataclass(frozen=True)
class RestoreReport:
    """What uninstall did to power mode and clocks.

    Attributes:
        restored: how many attributes were written.
        reboot_needed: the mode of before is staged and comes with the next boot.
        problems: sentences; empty when all is as it was (or will be after the reboot).
    """

    restored: int = 0
    reboot_needed: bool = False
    problems: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems


def record_before(host: Host, ledger: Ledger) -> None:
    """Write down mode and clocks, unless that was done before. Call before the first change."""
    if NOTE in ledger.notes:
        return
    mode_id = power_facts.read_status(host)
    ledger.note(
        NOTE,
        {
            "mode_id": None if isinstance(mode_id, Unknown) else mode_id,
            "status": _status(host),
            "folder": host.is_dir(str(PurePosixPath(STATUS_PATH).parent)),
            "attributes": dict(_attributes(host)),
        },
    )


def restore(host: Host, ledger: Ledger, log: Progress) -> RestoreReport:
    """Put mode and clocks back to what the ledger says; does nothing when it says nothing.

    A mode that needs a reboot is staged, said, and left to the next boot.
    """
    note = ledger.notes.get(NOTE)
    if not isinstance(note, dict):
        return RestoreReport()
    host.require_root("Putting power mode and clocks back")
    reboot = _restore_mode(host, note, log)
    wanted = note.get("attributes", {})
    if reboot:
        # The kernel has refused them a moment ago; the boot applies them.
        wanted = {path: text for path, text in wanted.items() if not path.endswith(_MASK)}
    count, problems, refused = _restore_attributes(host, wanted)
    _restore_status(host, note)
    if count:
        log(f"Put back {count} clock and power settings")
    if reboot or refused:
        log("The power mode of before takes effect with the next reboot")
    return RestoreReport(count, reboot or refused, tuple(problems))


def touched_paths(host: Host) -> list[str]:
    """Every attribute that nvpmodel or jetson_clocks may write on this box, in writing order."""
    paths = [*_conf_paths(host), *_clock_paths(host)]
    seen: set[str] = set()
    kept = []
    for path in paths:
        real = str(host.path(path).resolve())
        if real not in seen:
            seen.add(real)
            kept.append(path)
    return kept


def _conf_paths(host: Host) -> Iterator[str]:
    data = sysfs.raw(host, CONF_PATH)
    conf = data if isinstance(data, Unknown) else parse_conf(data)
    if isinstance(conf, Conf):
        for param in conf.params:
            for arg, path in param.paths:
                if not arg.startswith("FREQ_TABLE") and path.startswith("/sys/"):
                    yield path


def _clock_paths(host: Host) -> Iterator[str]:
    cpu = clock_facts.CPU_ROOT
    for pattern in ("cpufreq/policy*", "cpu[0-9]*/cpufreq"):
        for name in ("scaling_max_freq", "scaling_min_freq"):
            yield from sysfs.glob(host, f"{cpu}/{pattern}/{name}")
    yield from sysfs.glob(host, f"{cpu}/cpu[0-9]*/cpuidle/state*/disable")
    for gpu in clock_facts.gpu_folders(host):
        yield from (f"{gpu}/max_freq", f"{gpu}/min_freq")
        yield from (f"{gpu}/device/railgate_enable", f"{gpu}/device/power/control")
    yield from clock_facts.EMC_CAPS
    yield from (f"{clock_facts.EMC_CLOCK}/rate", f"{clock_facts.EMC_CLOCK}/mrq_rate_locked")
    yield from sysfs.glob(host, "/sys/class/hwmon/hwmon*/pwm1")


def _attributes(host: Host) -> Iterator[tuple[str, str]]:
    for path in touched_paths(host):
        data = sysfs.raw(host, path)
        if isinstance(data, bytes):
            yield path, data.decode("ascii", errors="ignore")


def _status(host: Host) -> dict[str, Any] | None:
    if not host.is_file(STATUS_PATH):
        return None
    info = host.stat(STATUS_PATH)
    data = base64.b64encode(host.read_bytes(STATUS_PATH)).decode()
    return {"data": data, "mode": info.mode, "uid": info.uid, "gid": info.gid}


def _restore_mode(host: Host, note: dict[str, Any], log: Progress) -> bool:
    """nvpmodel first, since it knows its hardware; says whether a reboot is needed."""
    now = power_facts.read(host)
    before = note.get("mode_id")
    mode = now.conf.mode(before) if isinstance(now.conf, Conf) and before is not None else None
    if mode is None or (now.mode == mode and now.in_force is not False):
        return False
    change = set_mode(host, mode)
    if change.outcome is Outcome.NEEDS_REBOOT:
        return True  # the status file, which is put back last, stages it
    was = now.effective if isinstance(now.effective, Mode) else now.mode
    shown = was.name if isinstance(was, Mode) else "unknown"
    log(change.problem or f"Power mode: {shown} -> {mode.name}")
    return False


def _restore_attributes(host: Host, wanted: dict[str, str]) -> tuple[int, list[str], bool]:
    """Write what differs.

    Returns:
        how many were written, what could not be, and whether the kernel wants a reboot for one.
    """
    written: set[str] = set()
    todo = {path: text for path, text in wanted.items() if _differs(host, path, text)}
    failed: dict[str, OSError] = {}
    for _ in range(_PASSES):
        failed = {}
        for path, text in todo.items():
            try:
                host.write_sysfs(path, text)
                written.add(path)
            except OSError as error:
                failed[path] = error
        todo = {path: text for path, text in todo.items() if _sticks(host, path, text)}
        if not todo:
            break
    refused = {p for p, error in failed.items() if p in todo and error.errno == errno.EBUSY}
    masks = {path for path in refused if path.endswith(_MASK)}
    problems = [_problem(path, failed.get(path)) for path in todo if path not in masks]
    return len(written), problems, bool(masks)


def _problem(path: str, error: OSError | None) -> str:
    why = sysfs.why(path, error) if error else "it kept another value"
    return f"{path} could not be put back: {why}."


def _differs(host: Host, path: str, text: str) -> bool:
    now = sysfs.raw(host, path)
    if path.endswith("/pwm1") and isinstance(now, bytes):
        # A fan that is regulated changes its speed all the time; only full speed was our doing.
        return now.strip() == _FULL_PWM and text.strip().encode() != _FULL_PWM
    return now != text.encode()


def _sticks(host: Host, path: str, text: str) -> bool:
    """Is it still wrong after a write? The memory's rate moves by itself once it is unlocked."""
    return not path.endswith("/emc/rate") and _differs(host, path, text)


def _restore_status(host: Host, note: dict[str, Any]) -> None:
    was = note.get("status")
    if was is None:
        host.remove(STATUS_PATH)
        if not note.get("folder", True):
            host.rmdir(str(PurePosixPath(STATUS_PATH).parent))
        return
    data = base64.b64decode(was["data"])
    if sysfs.raw(host, STATUS_PATH) != data:
        host.write(STATUS_PATH, data, mode=was["mode"], owner=(was["uid"], was["gid"]))
