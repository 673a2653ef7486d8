"""Others who set the clocks, kept from it with the owner's consent.

A service (tuned, auto-cpufreq, power-profiles-daemon, a hand-made unit that locks clocks) is
disabled and stopped; jtop, which shows much else too, is ordered after our lock by a drop-in. No
file of another package is edited, the ledger knows what was enabled and what ran, and uninstall
brings it back. This step is taken only when somebody names it: a plain install leaves others alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from ishowtts_ops.config import Settings
from ishowtts_ops.facts import rivals as rival_facts
from ishowtts_ops.facts.rivals import DISABLE, JTOP_DROP_IN, ORDER, Rival
from ishowtts_ops.host import Host
from ishowtts_ops.steps import Change, Ledger, Progress, Recorder, command_line, file_diff

NOTE_PREFIX = "rival:"
"""Ledger notes `rival:UNIT` → {"active": did it run?}."""

_UNIT_DIR = "/etc/systemd/system"
_LIMIT_S = 90.0
_DROP_IN = f"""\
# Written by ishowtts-ops: jtop's own clock lock comes after ishowtts-ops' and finds the mode set.
[Unit]
After={rival_facts.CLOCKS_UNIT}
"""


class RivalsStep:
    """Nobody else sets mode or clocks, as far as that can be had without editing others' files."""

    name = "rivals"
    title = "others who set the clocks"

    def __init__(self, settings: Settings, ledger: Ledger) -> None:
        self.settings = settings
        self.ledger = ledger

    def diff(self, host: Host) -> Change | None:
        """What would be switched off; asks systemd, changes nothing."""
        found = solvable(host, self.settings)
        if not found:
            return None
        preview: list[str] = []
        for rival in found:
            preview.append(f"# {rival.detail}")
            if rival.way == ORDER:
                preview += file_diff(host, JTOP_DROP_IN, _DROP_IN)
                preview.append(command_line(("systemctl", "daemon-reload")))
            else:
                preview.append(command_line(_disable(rival)))
        return Change(
            self.name,
            "keep from the clocks: " + ", ".join(rival.name for rival in found),
            tuple(preview),
            lambda log: self._apply(host, found, log),
        )

    def _apply(self, host: Host, found: Sequence[Rival], log: Progress) -> None:
        record = Recorder(host, self.ledger)
        for rival in found:
            if rival.way == ORDER:
                log(f"writing {JTOP_DROP_IN}")
                record.write(JTOP_DROP_IN, _DROP_IN)
                host.run(("systemctl", "daemon-reload"), timeout=_LIMIT_S).check()
                continue
            for link in enabling_links(host, rival.unit):
                self.ledger.remember(link)
            self.ledger.note(f"{NOTE_PREFIX}{rival.unit}", {"active": rival.active is True})
            log(" ".join(_disable(rival)))
            host.run(_disable(rival), timeout=_LIMIT_S).check(
                f"`systemctl status {rival.unit}` says more."
            )


def solvable(host: Host, settings: Settings) -> tuple[Rival, ...]:
    """Rivals that act on this box and that this step can keep from it."""
    if not settings.power.lock_clocks:
        return ()
    return tuple(r for r in rival_facts.read(host).in_charge if r.way in (DISABLE, ORDER))


def enabling_links(host: Host, unit: str) -> list[str]:
    """The links below /etc that `systemctl disable` takes away: those that pull the unit in, and
    its other names."""
    links = host.glob(f"{_UNIT_DIR}/*.wants/{unit}") + host.glob(f"{_UNIT_DIR}/*.requires/{unit}")
    for name in host.listdir(_UNIT_DIR):
        path = f"{_UNIT_DIR}/{name}"
        if host.is_symlink(path) and host.readlink(path).rsplit("/", 1)[-1] == unit:
            links.append(path)
    return [link for link in links if host.is_symlink(link)]


def switched_off(ledger: Ledger) -> tuple[str, ...]:
    """Units that this step switched off, by the ledger."""
    return tuple(
        key.removeprefix(NOTE_PREFIX) for key in ledger.notes if key.startswith(NOTE_PREFIX)
    )


def bring_back(host: Host, ledger: Ledger, log: Progress) -> tuple[str, ...]:
    """Start again what ran before; its links are back with the ledger's files.

    Returns:
        sentences about what could not be started.
    """
    problems = []
    for unit in switched_off(ledger):
        was = ledger.notes[f"{NOTE_PREFIX}{unit}"]
        if not (isinstance(was, dict) and was.get("active")):
            continue
        log(f"starting {unit}")
        result = host.run(("systemctl", "start", unit), timeout=_LIMIT_S)
        if not result.ok:
            problems.append(f"{unit} ran before install and does not start: see its journal.")
    return tuple(problems)


def _disable(rival: Rival) -> tuple[str, ...]:
    return ("systemctl", "disable", "--now", rival.unit)
