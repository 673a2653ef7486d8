"""One take-over from its beginning to its end: before, plan, after, undo, compared file by file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ishowtts_ops.config import Settings
from ishowtts_ops.host import SIM_MARKER, Host
from ishowtts_ops.provision import install, patch
from ishowtts_ops.provision.f5_source import SourceStep, locate, undo_submodule
from ishowtts_ops.provision.patch import PatchState, PatchStatus, PatchStep
from ishowtts_ops.provision.patch_text import blob_id
from ishowtts_ops.provision.series import Series, load_series
from ishowtts_ops.steps import Change, Ledger, Step
from tests.support.f5 import API, CHECKOUT, UTILS, Box
from tests.support.tree import Entry, differences, snapshot

VOLATILE = ("/run/*", "/srv/*", "/var/lib/ishowtts-ops", "/var/lib/ishowtts-ops/*")
"""The lock, the repository everything is cloned from, and our own state."""


@dataclass
class Story:
    """A box and the series that it is to get.

    Attributes:
        settings: of the box.
    """

    box: Box
    series: Series = field(default_factory=load_series)
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        self.box.host.write(SIM_MARKER, "{}")
        for folder in ("/run", "/var/lib"):
            self.box.host.mkdir(folder)
        self.box = Box(Host.at(self.box.host.root))

    @property
    def host(self) -> Host:
        return self.box.host

    @property
    def source(self) -> str:
        return locate(self.host.read_only(), self.settings).path

    def look(self) -> dict[str, Entry]:
        """Every file of the box with mode, owner and digest, git's own files included."""
        return snapshot(self.host.root, ("/",), VOLATILE)

    def status(self) -> PatchStatus:
        return patch.status(self.host.read_only(), self.source, self.series)

    @property
    def state(self) -> PatchState:
        return self.status().state

    def steps(self) -> list[Step]:
        ledger = Ledger.open(self.host)
        return [
            SourceStep(self.settings, ledger),
            PatchStep(self.settings, ledger, self.series),
        ]

    def plan(self) -> list[Change]:
        """The plan; proves that planning changes nothing."""
        before = self.look()
        changes = install.plan(self.host.read_only(), self.steps())
        assert differences(before, self.look()) == []
        return changes

    def take_over(self) -> list[Change]:
        """Install, and prove that nothing is left to do."""
        done = install.apply(
            self.host, self.steps(), log=lambda _: None, on_step=lambda *_: None, doing="a test"
        )
        assert self.state is PatchState.APPLIED
        assert self.plan() == []
        return done

    def undo(self) -> None:
        """What uninstall does with files."""
        ledger = Ledger.open(self.host)
        undo_series(self.host, ledger, self.series)
        assert undo_submodule(self.host, ledger, lambda _: None) == ()
        ledger.restore_files(keep=lambda path: path.startswith("/var/lib/ishowtts-ops"))

    def changed(self, before: dict[str, Entry]) -> list[str]:
        """Paths below the source that are not as before."""
        after = self.look()
        paths = {p for p in before.keys() | after.keys() if before.get(p) != after.get(p)}
        return sorted(p.removeprefix(f"{self.source}/") for p in paths)

    def expected(self) -> list[str]:
        """Paths that the series changes or adds here, folders of its own included."""
        status = self.status()
        rows = [r.path for r in status.rows if r.role in ("hook", "added", "restored")]
        folders = {
            str(parent)
            for path in self.series.added
            for parent in Path(path).parents
            if str(parent) not in (".", "src", "src/f5_tts", "src/f5_tts/infer")
        }
        return sorted({*rows, *folders})


def undo_series(host: Host, ledger: Ledger, series: Series) -> None:
    """`patch.undo_all` with a series of the test's."""
    from ishowtts_ops.provision.patch_state import read_records

    for source in read_records(host):
        patch.revert(host, source, ledger, series, set_aside=True)


def foreign(data: bytes) -> bytes:
    """A stand-in for the patch that boxes in the field carry, whose content is somebody else's."""
    return b"# made faster by hand\n# torch.compile mode='max-autotune', tensorrt_vocoder\n" + data


def with_legacy(box: Box, folder: Path, paths: Sequence[str] = (UTILS, API)) -> Series:
    """The real series with a table that knows `foreign` files of this box (now unpatched)."""
    shipped = load_series()
    copy = folder / "series-with-legacy"
    copy.mkdir()
    for item in Path(shipped.folder).iterdir():
        if item.name != "legacy.tsv":
            (copy / item.name).symlink_to(item)
    rows = [
        ("field", path, blob_id(foreign(box.read(path)))[:7], blob_id(box.read(path))[:7])
        for path in paths
    ]
    (copy / "legacy.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    return load_series(copy)


def make_legacy(box: Box, *paths: str) -> None:
    for path in paths:
        (box.source / path).write_bytes(foreign(box.read(path)))


def diff_of(old: bytes, new: bytes) -> list[str]:
    """The changed lines only."""
    lines = difflib.unified_diff(old.decode().splitlines(), new.decode().splitlines(), n=0)
    return [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]


__all__ = ["CHECKOUT", "Story", "diff_of", "foreign", "make_legacy", "with_legacy"]
