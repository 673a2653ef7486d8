"""The box's own configuration file: written once, then left to its owner."""

from __future__ import annotations

from dataclasses import dataclass

from ishowtts_ops.config import CONFIG_PATH
from ishowtts_ops.host import Host
from ishowtts_ops.steps import Change, Ledger, Recorder, file_diff


@dataclass(frozen=True)
class ConfigStep:
    """`/etc/ishowtts-ops/config.yaml` exists.

    Attributes:
        text: what to write: the documented default, or the file the owner gave with --config.
        replace: write also over an existing file (the owner gave one, and units read this path).
    """

    text: str
    ledger: Ledger
    replace: bool = False
    name: str = "config"
    title: str = "the box's configuration file"

    def diff(self, host: Host) -> Change | None:
        if host.is_file(CONFIG_PATH) and not self.replace:
            return None
        preview = file_diff(host, CONFIG_PATH, self.text)
        if not preview:
            return None
        return Change(
            self.name,
            f"write {CONFIG_PATH}",
            tuple(preview),
            lambda _: self._apply(host),
        )

    def _apply(self, host: Host) -> None:
        Recorder(host, self.ledger).write(CONFIG_PATH, self.text)
        # So that uninstall can tell the file we wrote from one its owner has edited since.
        self.ledger.notes["config-sha256"] = host.sha256(CONFIG_PATH)
        self.ledger.save()
