"""Every error the toolkit raises on purpose, as one tree.

    OpsError                 exit 1   something was found or failed; carries a hint
    ├── UsageError           exit 2   the words of the command are off
    ├── ConfigError          exit 2   the configuration is off; carries every problem at once
    ├── Undetermined         exit 3   the answer could not be found out
    ├── NeedsRoot            exit 1   a step needs root and we are not
    ├── NotAJetson           exit 1   this machine is no Jetson (or its kind is unknown)
    ├── BoxLocked            exit 1   another install or uninstall is at work
    ├── CommandFailed        exit 1   a process ended badly; carries its Result
    ├── ToolMissing          exit 1   a program is not on the box
    ├── ReadOnlyViolation    exit 1   a bug: a read-only host was asked to change something
    ├── PatchRefused         exit 1   the series does not fit the source tree, nothing was changed
    ├── MachineTrouble       exit 1   no room, no permission, a broken disk: what the kernel refused
    └── Interrupted          exit 130 Ctrl-C

A message is one sentence for a person; `hint` is the next step. Anything else that reaches the top
is a bug and is shown with its traceback.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from dataclasses import dataclass


class OpsError(Exception):
    """A failure that a person can understand and act upon.

    Args:
        message: one sentence.
        hint: what to do next, one sentence or a command; may be empty.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(OpsError):
    exit_code = 2


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a configuration: where (dotted key path) and what."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" if self.where else self.what


class ConfigError(OpsError):
    """All problems of one configuration file at once."""

    exit_code = 2

    def __init__(self, source: str, problems: Sequence[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        count = len(self.problems)
        noun = "problem" if count == 1 else "problems"
        lines = "".join(f"\n  {problem}" for problem in self.problems)
        super().__init__(
            f"{source} has {count} {noun}:{lines}",
            "Correct the file; `ishowtts-ops config check` shows what is left.",
        )


class Undetermined(OpsError):
    exit_code = 3


class NeedsRoot(OpsError):
    def __init__(self, what: str) -> None:
        super().__init__(f"{what} needs root.", "Run the same command with sudo.")


class NotAJetson(OpsError):
    pass


class BoxLocked(OpsError):
    pass


class ToolMissing(OpsError):
    def __init__(self, tool: str, why: str = "") -> None:
        reason = f" It is needed {why}." if why else ""
        super().__init__(
            f"`{tool}` is not on this box.{reason}", f"Install `{tool}` and run again."
        )
        self.tool = tool


class CommandFailed(OpsError):
    """A process ended with a bad status or ran out of time."""

    def __init__(self, argv: Sequence[str], status: str, output: str, hint: str = "") -> None:
        tail = "\n".join(output.strip().splitlines()[-12:])
        super().__init__(f"`{' '.join(argv)}` {status}." + (f"\n{tail}" if tail else ""), hint)
        self.argv = tuple(argv)
        self.output = output


class ReadOnlyViolation(OpsError):
    pass


class PatchRefused(OpsError):
    pass


_SUDO = "Run the same command with sudo, or name a place that is yours."
_ROOM = "Make room (`df -h` shows where it is short) and run the same command again."
_REFUSALS = {
    errno.EACCES: _SUDO,
    errno.EPERM: _SUDO,
    errno.ENOSPC: _ROOM,
    errno.EDQUOT: _ROOM,
    errno.EROFS: "Name a file on another file system, or mount this one writable.",
    errno.EIO: "Look at `dmesg`: the disk or the card may be failing.",
}


class MachineTrouble(OpsError):
    """What the kernel refused, where nobody nearer to it knew more to say about it."""

    @classmethod
    def of(cls, error: OSError) -> MachineTrouble | None:
        """The sentence for an error that the machine's state explains; None for one that a bug may
        have caused, such as a missing file."""
        if error.errno not in _REFUSALS:
            return None
        where = f": {os.fsdecode(error.filename)}" if error.filename else ""
        return cls(f"{os.strerror(error.errno)}{where}.", _REFUSALS[error.errno])


class Interrupted(OpsError):
    exit_code = 130

    def __init__(self) -> None:
        super().__init__("Interrupted.", "The same command again finishes what was begun.")
