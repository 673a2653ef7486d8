"""A patch series: small hooks in upstream's files, and added files kept as plain source.

series         patch files in the order in which they apply; `NAME versions=1.1.9,1.1.17` limits
               one to those versions; `#` starts a comment
*.patch        the hooks: unified diffs of existing files, with their reason as leading text
files/         added files, laid out as in the source tree
upstream.tsv   version, path, git blob: which upstream version is this?
legacy.tsv     name, path, git blob, git blob it was made from: patches that boxes in the field
               carry and that this series replaces
legacy-marks.tsv  name, path, word: what tells such a patch where it was edited since
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ishowtts_ops.errors import OpsError
from ishowtts_ops.provision.patch_text import FilePatch, HunkFailure, apply_hunks, parse_patch
from ishowtts_ops.resources import resource

SERIES = "patches/f5-tts"
_BLOB = re.compile(r"^[0-9a-f]{7,40}$")


@dataclass(frozen=True)
class Patch:
    """One patch file.

    Attributes:
        versions: the upstream versions it is for; empty means all.
        reason: the text above its first diff.
    """

    name: str
    versions: frozenset[str]
    files: tuple[FilePatch, ...]
    reason: str
    raw: bytes


@dataclass(frozen=True)
class LegacyBlob:
    """A file as some older, foreign patch leaves it. Blobs may be short hashes.

    Attributes:
        base: upstream's blob it was made from.
    """

    name: str
    path: str
    blob: str
    base: str


@dataclass(frozen=True)
class LegacyMark:
    """A word that an older, foreign patch brings into a file."""

    name: str
    path: str
    word: str


@dataclass(frozen=True)
class Variant:
    """The patches of a series that are for one version, in order."""

    patches: tuple[Patch, ...]

    def apply(self, path: str, text: bytes) -> tuple[bytes | None, tuple[HunkFailure, ...]]:
        """One file (LF) with every hook of it applied, or what does not fit."""
        current = text
        for patch in self.patches:
            for section in patch.files:
                if section.path == path:
                    result, failures = apply_hunks(section, current, patch.name)
                    if result is None:
                        return None, failures
                    current = result
        return current, ()

    def take_back(self, path: str, text: bytes) -> bytes | None:
        """The file before the hooks, or None when they are not (all) there."""
        current = text
        for patch in reversed(self.patches):
            for section in patch.files:
                if section.path == path:
                    result, _ = apply_hunks(section.reversed(), current, patch.name)
                    if result is None:
                        return None
                    current = result
        return current

    def hooked(self) -> list[str]:
        """Paths that the patches change, in order of first appearance."""
        return list(dict.fromkeys(s.path for patch in self.patches for s in patch.files))


@dataclass(frozen=True)
class Series:
    """A loaded series. Paths are relative to the source tree ("src/f5_tts/api.py").

    Attributes:
        added: path to content of every added file.
        upstream: version to path to blob.
    """

    folder: str
    patches: tuple[Patch, ...]
    added: Mapping[str, bytes]
    upstream: Mapping[str, Mapping[str, str]]
    legacy: tuple[LegacyBlob, ...]
    marks: tuple[LegacyMark, ...] = ()

    @cached_property
    def id(self) -> str:
        """SHA-256 of all that can change a source tree (12 hex digits)."""
        digest = hashlib.sha256()
        for patch in self.patches:
            _feed(digest, "patch", patch.name, ",".join(sorted(patch.versions)), patch.raw)
        for path in sorted(self.added):
            _feed(digest, "file", path, self.added[path])
        return digest.hexdigest()[:12]

    def variant(self, version: str | None) -> Variant:
        """The patches for a version; for an unknown one (None) those without a limit."""
        return Variant(tuple(p for p in self.patches if not p.versions or version in p.versions))

    def variants(self) -> list[tuple[str, Variant]]:
        """Every different selection of patches with the newest version it is for, newest first."""
        named: dict[Variant, str] = {}
        limits = {version for patch in self.patches for version in patch.versions}
        for version in sorted({*self.upstream, *limits}, key=version_key, reverse=True):
            named.setdefault(self.variant(version), version)
        if not named:
            named[self.variant(None)] = ""
        return [(version, variant) for variant, version in named.items()]

    def hooked(self) -> list[str]:
        """Every path that some patch changes."""
        return Variant(self.patches).hooked()

    def upstream_blobs(self, path: str) -> set[str]:
        """All blobs that path has in the known versions."""
        return {files[path] for files in self.upstream.values() if path in files}

    def version_of(self, blobs: Mapping[str, str | None]) -> str | None:
        """The newest version all of whose tabled files have these blobs (path to blob)."""
        fits = [
            version
            for version, files in self.upstream.items()
            if all(blobs.get(path) == blob for path, blob in files.items())
        ]
        return max(fits, key=version_key, default=None)

    def tabled(self) -> list[str]:
        """Every path of upstream.tsv."""
        return sorted({path for files in self.upstream.values() for path in files})


def version_key(version: str) -> tuple[int, ...]:
    """Sorts "1.1.9" before "1.1.17"."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def load_series(folder: Path | None = None) -> Series:
    """Read a series from its folder; the one that comes with the package by default.

    Raises:
        OpsError: a file is missing or damaged: the sentence names it.
    """
    folder = folder or resource(SERIES)
    patches = []
    for number, line in enumerate(_lines(folder / "series"), start=1):
        name, versions = _series_line(line, number)
        raw = _read(folder / name)
        files = parse_patch(name, raw)
        reason = raw.split(b"\n--- ")[0].split(b"\ndiff --git")[0].decode("utf-8", "replace")
        patches.append(Patch(name, versions, files, reason.strip(), raw))
    names = [patch.name for patch in patches]
    if len(set(names)) != len(names):
        raise OpsError(f"{folder / 'series'} names a patch twice.")
    series = Series(
        str(folder),
        tuple(patches),
        _added(folder / "files"),
        _upstream(folder / "upstream.tsv", folder / "versions.tsv"),
        _legacy(folder / "legacy.tsv"),
        _marks(folder / "legacy-marks.tsv"),
    )
    both = sorted(set(series.hooked()) & set(series.added))
    if both:
        raise OpsError(f"The series both changes and adds {both[0]}.")
    return series


def _feed(digest: hashlib._Hash, *parts: str | bytes) -> None:
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(b"%d:" % len(raw) + raw)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise OpsError(
            f"The patch series is not whole: {path} cannot be read ({error.strerror}).",
            "Install ishowtts-ops again.",
        ) from None


def _lines(path: Path) -> list[str]:
    text = _read(path).decode("utf-8", "replace")
    lines = (line.split("#")[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def _series_line(line: str, number: int) -> tuple[str, frozenset[str]]:
    name, *options = line.split()
    versions: frozenset[str] = frozenset()
    for option in options:
        key, _, value = option.partition("=")
        if key != "versions" or not value:
            raise OpsError(f"The series file does not know the option {option!r} (line {number}).")
        versions = frozenset(value.split(","))
    if "/" in name:
        raise OpsError(f"The series file names {name!r}, which is not beside it (line {number}).")
    return name, versions


def _added(folder: Path) -> dict[str, bytes]:
    """Byte code and the hidden caches of development tools are nobody's to install."""
    found = {}
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        inside = path.relative_to(folder)
        litter = any(part == "__pycache__" or part.startswith(".") for part in inside.parts)
        if path.is_file() and not litter:
            found[inside.as_posix()] = _read(path)
    return found


def _rows(path: Path, columns: int) -> Iterable[list[str]]:
    if not path.exists():
        return
    for line in _lines(path):
        cells = line.split()
        if len(cells) != columns or not _BLOB.match(cells[2]):
            if cells[1:3] == ["path", "blob"]:
                continue
            raise OpsError(f"{path} has a line that cannot be understood: {line!r}.")
        yield cells


def _upstream(*tables: Path) -> dict[str, dict[str, str]]:
    merged: dict[str, dict[str, str]] = {}
    for path in tables:
        for version, file, blob in _rows(path, 3):
            if merged.setdefault(version, {}).setdefault(file, blob) != blob:
                raise OpsError(f"{path} and its neighbour differ on {file} of {version}.")
    return merged


def _legacy(path: Path) -> tuple[LegacyBlob, ...]:
    return tuple(LegacyBlob(*cells) for cells in _rows(path, 4))


def _marks(path: Path) -> tuple[LegacyMark, ...]:
    rows = [line.split() for line in _lines(path)] if path.exists() else []
    for cells in rows:
        if len(cells) != 3:
            raise OpsError(f"{path} has a line that cannot be understood: {' '.join(cells)!r}.")
    return tuple(LegacyMark(*cells) for cells in rows)
