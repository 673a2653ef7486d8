"""Commands as a person may copy them: on this very box, wherever it is.

A check names a command as it is typed on a live box. A simulated box is a folder of a machine that
must not be rebooted or reconfigured in its place, an SD card needs `--root`, and a program that is
on nobody's search path has to be called by its whole name.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from ishowtts_ops.host import BoxKind, Host

PROGRAM = "ishowtts-ops"
_FOR_FILES = frozenset({"cat", "git"})
"""Programs of this machine that do for a box's files what they would do there."""


def spelled(host: Host, argv: Sequence[str], config_file: Path | None = None) -> str:
    """A command line for a shell of this machine. What can only be done on the box itself, which is
    not running here, is a comment: this machine must not be rebooted in its place.

    Args:
        argv: as on a live box, with `sudo` where it needs root.
        config_file: what was given as --config, for our own program to be given again.
    """
    sudo, words = (argv[:1], argv[1:]) if argv[0] == "sudo" else ((), argv)
    if host.kind is BoxKind.SIMULATED and host.is_root():
        sudo = ()  # its folder is ours
    if words[0] == PROGRAM:
        where = [] if host.kind is BoxKind.LIVE else ["--root", str(host.root)]
        config = [] if config_file is None else ["--config", str(config_file.resolve())]
        return shlex.join([*sudo, _program(), *words[1:], *where, *config])
    if host.kind is BoxKind.LIVE:
        return shlex.join(argv)
    if words[0] in _FOR_FILES:
        return shlex.join([*sudo, *(_real(host, word) for word in words)])
    tool = host.which(words[0]) if host.kind is BoxKind.SIMULATED else None
    if tool is None:
        return f"# on the box: {shlex.join(argv)}"
    root = shlex.quote(str(host.root))
    program = str(host.path(tool, follow_last=False))
    lead = [*sudo, "env"] if sudo else []
    return " ".join([*lead, f"ISHOWTTS_BOX_ROOT={root}", shlex.join([program, *words[1:]])])


def _program() -> str:
    """Our own name, or the whole path where no search path has it, sudo's among them."""
    if Host.at(Path("/")).which(PROGRAM) is not None:
        return PROGRAM
    beside = Path(sys.executable).with_name(PROGRAM)
    return str(beside) if beside.exists() else PROGRAM


def _real(host: Host, word: str) -> str:
    """A path of the box, as this machine knows it."""
    return str(host.path(word)) if word.startswith("/") and host.lexists(word) else word
