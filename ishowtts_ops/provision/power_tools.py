"""NVIDIA's two tools, run with care: nvpmodel sets the mode, jetson_clocks locks the clocks.

Neither's exit status is taken at its word. nvpmodel may offer a reboot; it is always answered `no`,
and the mode is staged instead.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ishowtts_ops.errors import CommandFailed, ToolMissing
from ishowtts_ops.facts.nvpmodel import STATUS_PATH, Mode, parse_status, status_bytes
from ishowtts_ops.facts.power import STAGED_PATH, read_status
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host

NVPMODEL_LIMIT_S = 60.0
CLOCKS_LIMIT_S = 60.0
HOME = "/root"
"""jetson_clocks keeps its store file under $HOME, which system units do not have."""


class Outcome(enum.Enum):
    SET = "set"
    NEEDS_REBOOT = "needs-reboot"
    FAILED = "failed"


@dataclass(frozen=True)
class ModeChange:
    """What became of a request for a mode; `problem` is a sentence when it failed."""

    mode: Mode
    outcome: Outcome
    problem: str = ""


def set_mode(host: Host, mode: Mode) -> ModeChange:
    """Ask nvpmodel for a mode. This rewrites every limit, so it also undoes the clock lock."""
    argv = ("nvpmodel", "-m", str(mode.id))
    call = f"`{' '.join(argv)}`"
    try:
        result = host.run(argv, timeout=NVPMODEL_LIMIT_S, stdin="no\n")
    except (ToolMissing, CommandFailed) as error:
        return ModeChange(mode, Outcome.FAILED, error.message)
    if "Reboot required" in result.output and not result.ok:
        return ModeChange(mode, Outcome.NEEDS_REBOOT)
    if result.timed_out:
        return ModeChange(mode, Outcome.FAILED, f"{call} did not end.")
    if not result.ok:
        said = _said(result.output, f"it ended with status {result.rc}")
        return ModeChange(mode, Outcome.FAILED, f"{call} did not set {mode.name}: {said}.")
    found = read_status(host)
    if found != mode.id:
        shown = found.reason if isinstance(found, Unknown) else f"mode {found} is set"
        text = f"{call} said that it had set {mode.name}, but {shown}."
        return ModeChange(mode, Outcome.FAILED, text)
    return ModeChange(mode, Outcome.SET)


def stage(host: Host, mode: Mode) -> bool:
    """Write a mode to the status file, so that the next boot applies it; nothing else changes.

    Returns:
        False when it was staged already.
    """
    wanted = status_bytes(mode.id)
    if not host.is_file(STATUS_PATH):
        host.write(STATUS_PATH, wanted)
        return True
    if parse_status(host.read_bytes(STATUS_PATH)) == mode.id:
        return False
    info = host.stat(STATUS_PATH)
    host.write(STATUS_PATH, wanted, mode=info.mode, owner=(info.uid, info.gid))
    return True


def await_reboot(host: Host, mode: Mode) -> bool:
    """Stage a mode that nvpmodel wants a reboot for, and remember that until the reboot: asked
    again, it would only say the same.

    Returns:
        False when it was staged already.
    """
    host.write(STAGED_PATH, f"{mode.id}\n")
    return stage(host, mode)


def max_clocks(host: Host, *, fan: bool) -> str:
    """Run jetson_clocks, which locks the clocks at the current mode's maximum.

    Returns:
        what it complained about, as a clause; empty when it did not. Only sysfs says whether the
        clocks are locked: the tool ends with 0 after most failures.
    """
    argv = ["jetson_clocks", *(["--fan"] if fan else [])]
    try:
        result = host.run(argv, timeout=CLOCKS_LIMIT_S, env={"HOME": HOME})
    except (ToolMissing, CommandFailed) as error:
        return error.message.rstrip(".")
    if result.timed_out:
        return "it did not end"
    complained = not result.ok or "Error" in result.output
    return _said(result.output, f"it ended with status {result.rc}") if complained else ""


def _said(output: str, otherwise: str) -> str:
    """The line of a tool's output that says what is wrong."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    wrong = [line for line in lines if "ERROR" in line or "Error" in line]
    return next(iter(wrong or lines[-1:]), otherwise).rstrip(".")
