"""Install on a root file system that is not running, such as a mounted SD card's.

What is files is done now: configuration, sources, series, manifest, unit files with their links,
and the power mode, staged, where the card has booted before and so knows its module. What needs the
box itself (its interpreter, weights, clocks, the daemon) is done by `ishowtts-firstboot.service`,
which runs `ishowtts-ops install --yes` at boot until that has ended well, and removes itself.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import NotAJetson, OpsError, UsageError
from ishowtts_ops.host import Host
from ishowtts_ops.provision.power import PowerStep
from ishowtts_ops.provision.units import (
    CLOCKS,
    PROGRAM,
    UNIT_DIR,
    install_links,
    rendered,
    rendered_unit,
)
from ishowtts_ops.steps import Change, Ledger, Progress, Recorder, Step, file_diff

FIRST_BOOT = "ishowtts-firstboot.service"

BY_FILES = ("config", "source", "patch", "voices")
"""Steps that need no running box."""

NEED_A_RUNNING_BOX = frozenset({"box-jetson", "box-module", "box-systemd", "engine-python"})
"""Doctor's checks that must not stop an install here."""

_ENABLED = (CLOCKS, FIRST_BOOT)
"""The others would start before there is anything for them to run; the first boot enables them."""


def offline_steps(
    settings: Settings, ledger: Ledger, steps: Sequence[Step], wheels: Path | None = None
) -> list[Step]:
    """What of install's `steps` can be done here, and the unit that does the rest.

    Args:
        wheels: a folder on the card (its real path) that the first boot installs from.
    """
    kept = [step for step in steps if step.name in BY_FILES]
    return [*kept, StagedPower(settings, ledger), OfflineUnits(settings, ledger, wheels)]


@dataclass(frozen=True)
class StagedPower:
    """The wanted mode comes with the first boot, where the card tells which modes there are."""

    settings: Settings
    ledger: Ledger
    name: str = "power"
    title: str = "the power mode, staged"

    def diff(self, host: Host) -> Change | None:
        try:
            return PowerStep(self.settings, self.ledger).diff(host)
        except NotAJetson:
            return None  # a card that never booted; its first boot knows


@dataclass(frozen=True)
class OfflineUnits:
    """Unit files as rendered, and the links that `systemctl enable` would make."""

    settings: Settings
    ledger: Ledger
    wheels: Path | None = None
    name: str = "units"
    title: str = "systemd units, and the one that finishes the installation at boot"

    def diff(self, host: Host) -> Change | None:
        """Raises OpsError where the program itself is not on the file system."""
        if not host.lexists(PROGRAM):
            raise OpsError(
                f"{PROGRAM} is not on this file system, so its first boot could not finish.",
                "Put the program there first: `./install.sh` in a chroot of it, or a copy of the"
                " folder from a box with the same JetPack.",
            )
        texts = rendered(host, self.settings)
        options = self._options(host)
        texts[f"{UNIT_DIR}/{FIRST_BOOT}"] = rendered_unit(
            host, self.settings, FIRST_BOOT, first_boot_options=options
        )
        links = {
            link: target
            for name in _ENABLED
            for link, target in install_links(name, texts.get(f"{UNIT_DIR}/{name}", "")).items()
            if not host.is_symlink(link)
        }
        wrong = {path: text for path, text in texts.items() if file_diff(host, path, text)}
        if not (wrong or links):
            return None
        preview = [line for path in wrong for line in file_diff(host, path, wrong[path])]
        preview += [f"$ ln -s {target} {link}" for link, target in links.items()]

        def act(log: Progress) -> None:
            record = Recorder(host, self.ledger)
            for path, text in wrong.items():
                log(f"writing {path}")
                record.write(path, text)
            for link, target in links.items():
                record.symlink(target, link)

        summary = f"{len(wrong)} written, {len(links)} enabled; the rest at first boot"
        return Change(self.name, summary, tuple(preview), act)

    def _options(self, host: Host) -> str:
        """Further words for the first boot's `install`."""
        if self.wheels is None:
            return self._options_of_before(host)
        real = self.wheels.resolve()
        if not real.is_relative_to(host.root):
            raise UsageError(
                f"{self.wheels} is not on this file system, so its first boot would not find it.",
                "Copy the folder there, and give it as it is below --root.",
            )
        # systemd reads % as the start of a specifier.
        return f" --wheels {shlex.quote(host.box_path(real))}".replace("%", "%%")

    def _options_of_before(self, host: Host) -> str:
        """A second preparation that does not name the folder again means the same first boot, as
        long as the folder is there."""
        unit = f"{UNIT_DIR}/{FIRST_BOOT}"
        text = host.read_text(unit) if host.is_file(unit) else ""
        found = re.search(r"install --yes( --wheels .+)$", text, re.MULTILINE)
        if found is None or not host.is_dir(shlex.split(found[1].replace("%%", "%"))[1]):
            return ""
        return found[1]
