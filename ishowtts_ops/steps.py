"""What changes a box: steps, the changes they ask for, and the ledger that can undo them.

A `Step` compares what is with what should be and answers with a `Change`, or None when there is
nothing to do. A change shows itself (unified diffs and commands) before it is applied. Before the
first effect on a path, a unit or the hardware, what was there is written to the **ledger**, so that
uninstall puts it back; the ledger is the only source of undo.
"""

from __future__ import annotations

import base64
import difflib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Protocol

from ishowtts_ops.config import STATE_DIR
from ishowtts_ops.errors import NeedsRoot, OpsError
from ishowtts_ops.host import Host

LEDGER_PATH = f"{STATE_DIR}/ledger.json"
LEDGER_VERSION = 1

Progress = Callable[[str], None]
"""Told one line at a time what a long change is doing."""


@dataclass(frozen=True)
class Change:
    """One step's difference between the box and what it should be.

    Attributes:
        step: the step's name.
        summary: one line for the plan.
        preview: what will be done, as unified diff lines and `$ command` lines.
        apply: does it; called at most once.
        needs_root, needs_reboot: said in the plan.
    """

    step: str
    summary: str
    preview: tuple[str, ...]
    apply: Callable[[Progress], None]
    needs_root: bool = True
    needs_reboot: bool = False


class Step(Protocol):
    """A part of the installed state. `diff` changes nothing and may be given a ReadOnlyHost."""

    @property
    def name(self) -> str: ...

    @property
    def title(self) -> str: ...

    def diff(self, host: Host) -> Change | None: ...


@dataclass
class Ledger:
    """What was on the box before we changed it, in the order in which we did.

    Kept as JSON under /var/lib/ishowtts-ops and written through before each effect, so that an
    install that is killed can still be undone. `files` maps a box path to what was there; `notes`
    holds what is not a file (unit states, power mode, clocks), one entry per key, first one wins.
    """

    host: Host
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    folders: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, host: Host) -> Ledger:
        """Read the box's ledger; an empty one when there is none.

        Raises:
            NeedsRoot: there is one, and we may not read it.
            OpsError: the file is damaged.
        """
        if not host.exists(LEDGER_PATH):
            return cls(host)
        try:
            text = host.read_text(LEDGER_PATH)
        except PermissionError:
            raise NeedsRoot(f"Reading what was there before ({LEDGER_PATH})") from None
        try:
            raw = json.loads(text)
            if raw["version"] != LEDGER_VERSION:
                raise OpsError(
                    f"{LEDGER_PATH} has version {raw['version']}, this program knows"
                    f" {LEDGER_VERSION}.",
                    "Use the release of ishowtts-ops that wrote it.",
                )
            return cls(host, dict(raw["files"]), list(raw["folders"]), dict(raw["notes"]))
        except (ValueError, KeyError, TypeError):
            raise OpsError(
                f"{LEDGER_PATH} is damaged, so what was on the box before is not known.",
                "Restore it from a backup, or move it away and run `ishowtts-ops install` again.",
            ) from None

    @property
    def empty(self) -> bool:
        return not (self.files or self.folders or self.notes)

    def save(self) -> None:
        """Write it through; raises OSError as `Host.write` does."""
        body = {
            "version": LEDGER_VERSION,
            "files": self.files,
            "folders": self.folders,
            "notes": self.notes,
        }
        for folder in _missing_parents(self.host, LEDGER_PATH):
            if folder not in self.folders:
                self.folders.append(folder)
        self.host.write(LEDGER_PATH, json.dumps(body, indent=1) + "\n", mode=0o600)

    def remember(self, box_path: str) -> None:
        """Record what is at `box_path` now, unless it is known already. Call before changing it."""
        if box_path in self.files:
            return
        for folder in _missing_parents(self.host, box_path):
            if folder not in self.folders:
                self.folders.append(folder)
        self.files[box_path] = _describe(self.host, box_path)
        self.save()

    def note(self, key: str, value: Any) -> None:
        """Record a fact under `key`, unless it is known already."""
        if key not in self.notes:
            self.notes[key] = value
            self.save()

    def restore_files(self, keep: Callable[[str], bool] = lambda _: False) -> list[str]:
        """Put every remembered path back, newest first; folders we made go when they are empty.

        Args:
            keep: paths to leave alone.

        Returns:
            the paths that were put back.
        """
        done = []
        for box_path in reversed(list(self.files)):
            if not keep(box_path):
                _put_back(self.host, box_path, self.files[box_path])
                done.append(box_path)
        for folder in sorted(self.folders, key=lambda f: -len(PurePosixPath(f).parts)):
            if not keep(folder):
                self.host.rmdir(folder)
        return done


@dataclass(frozen=True)
class Recorder:
    """A host's changing verbs for files, each remembered in the ledger first."""

    host: Host
    ledger: Ledger

    def write(self, box_path: str, data: bytes | str, *, mode: int = 0o644) -> None:
        self.ledger.remember(box_path)
        self.host.write(box_path, data, mode=mode)

    def symlink(self, target: str, box_path: str) -> None:
        self.ledger.remember(box_path)
        self.host.symlink(target, box_path)

    def remove(self, box_path: str) -> None:
        self.ledger.remember(box_path)
        self.host.remove(box_path)


def file_diff(host: Host, box_path: str, wanted: bytes | str, mode: int = 0o644) -> list[str]:
    """Unified diff lines from what is at a path to what should be; empty when nothing differs."""
    new = wanted.encode() if isinstance(wanted, str) else wanted
    old = host.read_bytes(box_path) if host.is_file(box_path) else None
    if old == new:
        actual = host.stat(box_path).mode
        return [] if actual == mode else [f"$ chmod {mode:o} {box_path}    # it is {actual:o}"]
    before = [] if old is None else old.decode("utf-8", "replace").splitlines()
    after = new.decode("utf-8", "replace").splitlines()
    if b"\0" in new or b"\0" in (old or b""):
        digest = hashlib.sha256(new).hexdigest()[:12]
        return [f"$ write {box_path}    # {len(new)} bytes, sha256 {digest}…"]
    name = box_path.lstrip("/")
    old_name = "/dev/null" if old is None else f"a/{name}"
    return list(difflib.unified_diff(before, after, old_name, f"b/{name}", lineterm=""))


def command_line(argv: Sequence[str]) -> str:
    """A command as a preview line."""
    return "$ " + " ".join(a if a and " " not in a else repr(a) for a in argv)


def _missing_parents(host: Host, box_path: str) -> list[str]:
    """Folders that writing `box_path` will make, outermost first."""
    missing: list[str] = []
    folder = PurePosixPath(box_path).parent
    while str(folder) != "/" and not host.lexists(str(folder)):
        missing.insert(0, str(folder))
        folder = folder.parent
    return missing


def _describe(host: Host, box_path: str) -> dict[str, Any]:
    if host.is_symlink(box_path):
        return {"kind": "symlink", "target": host.readlink(box_path)}
    if not host.lexists(box_path):
        return {"kind": "absent"}
    info = host.stat(box_path)
    if host.is_dir(box_path):
        return {"kind": "dir", "mode": info.mode, "uid": info.uid, "gid": info.gid}
    data = base64.b64encode(host.read_bytes(box_path)).decode()
    return {"kind": "file", "mode": info.mode, "uid": info.uid, "gid": info.gid, "data": data}


def _put_back(host: Host, box_path: str, was: Mapping[str, Any]) -> None:
    kind = was["kind"]
    if kind == "absent":
        if host.is_dir(box_path) and not host.is_symlink(box_path):
            host.rmtree(box_path)
        else:
            host.remove(box_path)
    elif kind == "symlink":
        host.symlink(was["target"], box_path)
    elif kind == "file":
        data = base64.b64decode(was["data"])
        host.write(box_path, data, mode=was["mode"], owner=(was["uid"], was["gid"]))
    elif kind == "dir":
        host.mkdir(box_path)
        host.chmod(box_path, was["mode"])
