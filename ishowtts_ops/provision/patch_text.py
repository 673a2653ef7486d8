"""Patches as text: parse, apply exactly, take back, render. Pure functions over bytes.

A hunk applies where all of its old lines stand, unchanged: at the line it names (moved by the hunks
before it), or, when upstream moved them, at the one other place where they stand. No fuzz: a line
that differs, or two places that fit, is a failure that names the hunk. What applies here applies
with `git apply` too, and with the same result.
"""

from __future__ import annotations

import difflib
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from ishowtts_ops.errors import OpsError

_HUNK = re.compile(rb"^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
_NO_NEWLINE = b"\\ No newline at end of file"


def blob_id(data: bytes) -> str:
    """The hash under which git stores a file's content (40 hex digits)."""
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def lines_of(data: bytes) -> list[bytes]:
    """Lines with their LF, as git counts them: a lone CR ends no line."""
    return _LINE.findall(data)


@dataclass(frozen=True)
class Content:
    """A file's bytes as they lie in the work tree.

    With core.autocrlf git keeps LF in its objects and writes CRLF into the work tree. A file all of
    whose lines end in CRLF is therefore known by both hashes; one with mixed ends only by its own.
    """

    data: bytes

    @cached_property
    def crlf(self) -> bool:
        """Do all lines end in CRLF?"""
        lines = self.data.count(b"\n")
        return lines > 0 and lines == self.data.count(b"\r\n") == self.data.count(b"\r")

    @cached_property
    def text(self) -> bytes:
        """The content as git stores it under core.autocrlf: LF, if it was all CRLF."""
        return self.data.replace(b"\r\n", b"\n") if self.crlf else self.data

    @cached_property
    def blob(self) -> str:
        return blob_id(self.data)

    @cached_property
    def text_blob(self) -> str:
        return blob_id(self.text)

    def is_blob(self, sha: str | None) -> bool:
        """Is this the blob of that hash, or one whose hash starts so (7 digits at least)?"""
        if sha is None or len(sha) < 7:
            return False
        return self.blob.startswith(sha) or self.text_blob.startswith(sha)

    def as_here(self, text: bytes) -> bytes:
        """LF text with this file's line ends."""
        return text.replace(b"\n", b"\r\n") if self.crlf else text


@dataclass(frozen=True)
class Hunk:
    """Lines that replace lines. Lines keep their terminator; line numbers count from 1.

    Attributes:
        at_end: no context follows the change, so it was made at the end of the file.
    """

    old_start: int
    new_start: int
    old: tuple[bytes, ...]
    new: tuple[bytes, ...]
    header: str
    at_end: bool

    def reversed(self) -> Hunk:
        return Hunk(self.new_start, self.old_start, self.new, self.old, self.header, self.at_end)


@dataclass(frozen=True)
class FilePatch:
    """All hunks of one patch file for one path."""

    path: str
    hunks: tuple[Hunk, ...]

    def reversed(self) -> FilePatch:
        return FilePatch(self.path, tuple(hunk.reversed() for hunk in self.hunks))


@dataclass(frozen=True)
class HunkFailure:
    """Why one hunk does not apply.

    Attributes:
        patch: the patch file's name.
        number: of the hunk in that patch for that path, from 1; 0 when the file itself is at fault.
        header: its `@@` line.
    """

    patch: str
    path: str
    number: int
    header: str
    reason: str

    def __str__(self) -> str:
        where = f"hunk {self.number} ({self.header}) of " if self.number else ""
        return f"{self.patch}: {where}{self.path}: {self.reason}"


def parse_patch(name: str, data: bytes) -> tuple[FilePatch, ...]:
    """The file sections of a unified diff; text before each section is the reason and is skipped.

    Raises:
        OpsError: the patch is damaged, or makes, deletes, renames or changes the mode of a file
            (added files are kept as plain files), or a hunk has no old line to hold on to.
    """
    sections: list[FilePatch] = []
    lines = lines_of(data)
    at = 0
    while at < len(lines):
        if _starts_section(lines, at):
            section, at = _section(name, lines, at)
            sections.append(section)
        else:
            forbidden = (b"rename from ", b"new file mode ", b"deleted file mode ", b"new mode ")
            if lines[at].startswith((*forbidden, b"GIT binary patch", b"@@ -")):
                raise _damaged(name, at, "only changes to lines of existing files are allowed")
            at += 1
    if not sections:
        raise _damaged(name, 0, "it changes no file")
    if len({section.path for section in sections}) != len(sections):
        raise _damaged(name, 0, "it names a file twice")
    return tuple(sections)


def _starts_section(lines: Sequence[bytes], at: int) -> bool:
    return (
        lines[at].startswith(b"--- ")
        and at + 2 < len(lines)
        and lines[at + 1].startswith(b"+++ ")
        and _HUNK.match(lines[at + 2]) is not None
    )


def _section(name: str, lines: Sequence[bytes], at: int) -> tuple[FilePatch, int]:
    paths = [line[4:].split(b"\t")[0].strip().decode() for line in lines[at : at + 2]]
    if "/dev/null" in paths:
        raise _damaged(name, at, "only changes to lines of existing files are allowed")
    old, new = (path.partition("/")[2] for path in paths)
    if old != new or not old or ".." in old.split("/") or old.startswith("/"):
        raise _damaged(name, at, "both sides must name the same file as a/PATH and b/PATH")
    at += 2
    hunks = []
    while at < len(lines) and _HUNK.match(lines[at]):
        hunk, at = _hunk(name, lines, at)
        hunks.append(hunk)
    return FilePatch(old, tuple(hunks)), at


def _hunk(name: str, lines: Sequence[bytes], at: int) -> tuple[Hunk, int]:
    found = _HUNK.match(lines[at])
    assert found
    first = at
    old_count, new_count = (int(found[group] or 1) for group in (2, 4))
    old: list[bytes] = []
    new: list[bytes] = []
    at += 1
    mark = b""
    while len(old) < old_count or len(new) < new_count:
        if at >= len(lines) or lines[at][:1] not in (b" ", b"-", b"+", b"\n"):
            raise _damaged(name, first, "the hunk is shorter than its @@ line says")
        mark, body = lines[at][:1], lines[at][1:]
        if mark == b"\n":  # an empty context line that lost its blank on the way
            mark, body = b" ", b"\n"
        at += 1
        if at < len(lines) and lines[at].startswith(_NO_NEWLINE):
            body = body.removesuffix(b"\n")
            at += 1
        if mark != b"+":
            old.append(body)
        if mark != b"-":
            new.append(body)
    if len(old) != old_count or len(new) != new_count:
        raise _damaged(name, first, "the hunk is longer than its @@ line says")
    if not old or not new:
        raise _damaged(name, first, "the hunk has no line of context")
    header = found[0].decode()
    at_end = mark != b" "
    return Hunk(int(found[1]), int(found[3]), tuple(old), tuple(new), header, at_end), at


def _damaged(name: str, line: int, what: str) -> OpsError:
    return OpsError(f"The patch {name} is damaged at line {line + 1}: {what}.")


def apply_hunks(
    patch: FilePatch, text: bytes, name: str
) -> tuple[bytes | None, tuple[HunkFailure, ...]]:
    """Apply every hunk, or none.

    Args:
        text: the file's content, LF.
        name: the patch file's name, for failures.

    Returns:
        (the new content, ()) or (None, every hunk that fails).
    """
    lines = lines_of(text)
    out: list[bytes] = []
    done = 0  # lines of the old text that are dealt with
    moved = 0
    failures = []
    for number, hunk in enumerate(patch.hunks, start=1):
        place, reason = _find(lines, hunk, done, moved)
        if place is None:
            failures.append(HunkFailure(name, patch.path, number, hunk.header, reason))
            continue
        moved = place - (hunk.old_start - 1)
        out += lines[done:place]
        out += hunk.new
        done = place + len(hunk.old)
    if failures:
        return None, tuple(failures)
    return b"".join(out + lines[done:]), ()


def _find(lines: Sequence[bytes], hunk: Hunk, done: int, moved: int) -> tuple[int | None, str]:
    old = list(hunk.old)
    named = hunk.old_start - 1 + moved
    last = len(lines) - len(old)
    # As git does: what was made at the first or last line of a file belongs there and nowhere else.
    first = max(last, done) if hunk.at_end else done
    final = 0 if hunk.old_start <= 1 else last
    places = [at for at in range(first, final + 1) if list(lines[at : at + len(old)]) == old]
    if named in places:
        return named, ""
    if len(places) == 1:
        return places[0], ""
    if places:
        shown = ", ".join(str(at + 1) for at in places)
        return None, f"its lines stand at more than one place (lines {shown})"
    return None, _difference(lines, hunk, named)


def _difference(lines: Sequence[bytes], hunk: Hunk, named: int) -> str:
    """The first old line that is nowhere in the file, else the first that differs in place."""
    present = set(lines)
    for line in hunk.old:
        if line not in present:
            return f"the line `{_shown(line)}` is not in the file"
    for at, line in enumerate(hunk.old, start=max(named, 0)):
        here = lines[at] if at < len(lines) else b"(end of file)"
        if here != line:
            return f"line {at + 1} is `{_shown(here)}` where `{_shown(line)}` is expected"
    return "its lines stand before those of the hunk above it"


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "replace").strip()
    return text if len(text) <= 80 else text[:77] + "..."


def render(path: str, old: bytes | None, new: bytes, context: int = 3) -> bytes:
    """A git diff from `old` (None: the file is added, mode 100644) to `new`."""
    before = [] if old is None else lines_of(old)
    after = lines_of(new)
    zero = "0" * 40
    old_blob = zero if old is None else blob_id(old)
    head = [f"diff --git a/{path} b/{path}\n"]
    if old is None:
        head.append("new file mode 100644\n")
    head.append(f"index {old_blob}..{blob_id(new)}" + ("\n" if old is None else " 100644\n"))
    if before or after:
        head.append("--- /dev/null\n" if old is None else f"--- a/{path}\n")
        head.append(f"+++ b/{path}\n")
    out = [line.encode() for line in head]
    for group in difflib.SequenceMatcher(None, before, after, False).get_grouped_opcodes(context):
        out.append(_range_header(group))
        for tag, i1, i2, j1, j2 in group:
            if tag == "equal":
                out += [_marked(b" ", line) for line in before[i1:i2]]
            else:
                out += [_marked(b"-", line) for line in before[i1:i2]]
                out += [_marked(b"+", line) for line in after[j1:j2]]
    return b"".join(out)


def _range_header(group: Sequence[tuple[str, int, int, int, int]]) -> bytes:
    old_from, old_to, new_from, new_to = group[0][1], group[-1][2], group[0][3], group[-1][4]

    def span(start: int, stop: int) -> str:
        return f"{start + (1 if stop > start else 0)},{stop - start}"

    return f"@@ -{span(old_from, old_to)} +{span(new_from, new_to)} @@\n".encode()


def _marked(mark: bytes, line: bytes) -> bytes:
    return mark + line if line.endswith(b"\n") else mark + line + b"\n" + _NO_NEWLINE + b"\n"
