"""Install killed for real at every few of its effects: the next run finishes, undo restores."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ishowtts_ops.config import CONFIG_PATH, parse
from ishowtts_ops.host import Host
from ishowtts_ops.provision import install
from ishowtts_ops.steps import Ledger, Step
from tests.support.folder import FolderBox, differences

WITHOUT_DAEMON = ("config", "engine", "source", "patch", "weights", "voices", "power", "units")
"""Starting the daemon takes most of the time and has its own tests under real systemd."""

CHANGING = (
    "write",
    "write_sysfs",
    "symlink",
    "remove",
    "rmtree",
    "rename",
    "mkdir",
    "run",
    "run_here",
)
STRIDE = 5


class Mortal(Host):
    """A host whose process is killed right before or right after its n-th effect."""

    count = 0
    deadline = 0
    before = True

    def _effect(self, verb: Callable[..., Any], *given: Any, **named: Any) -> Any:
        Mortal.count += 1
        doomed = Mortal.count == Mortal.deadline
        if doomed and Mortal.before:
            os.kill(os.getpid(), signal.SIGKILL)
        result = verb(*given, **named)
        if doomed:
            os.kill(os.getpid(), signal.SIGKILL)
        return result


def _mortal(name: str) -> Callable[..., Any]:
    def verb(self: Mortal, *given: Any, **named: Any) -> Any:
        return self._effect(getattr(Host, name).__get__(self), *given, **named)

    return verb


for _name in CHANGING:
    setattr(Mortal, _name, _mortal(_name))


def steps(host: Host) -> list[Step]:
    text = host.read_text(CONFIG_PATH)
    settings = parse(text, CONFIG_PATH)
    every = install.all_steps(settings, Ledger.open(host), text, replace_config=False)
    return install.choose(every, WITHOUT_DAEMON)


def apply(host: Host) -> None:
    install.apply(host, steps(host), log=lambda _: None, on_step=lambda *_: None)


def killed(box: FolderBox, effect: int, *, before: bool) -> bool:
    """Install in a child that dies at its n-th effect; says whether it got that far."""
    child = os.fork()
    if child == 0:
        Mortal.deadline, Mortal.before = effect, before
        try:
            apply(Mortal(box.root, box.host.kind))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_killed_anywhere_the_next_run_finishes(tmp_path: Path, before: bool) -> None:
    effect, kills = 1, 0
    while True:
        box = FolderBox(tmp_path / f"{effect}", board="orin-nano-super")
        start = box.tree()
        alive = not killed(box, effect, before=before)
        apply(box.host)
        assert install.plan(box.host.read_only(), steps(box.host)) == [], f"effect {effect}"
        install.uninstall(box.host, purge=False, log=lambda _: None)
        assert differences(start, box.tree()) == [], f"effect {effect}"
        box.stop()
        if alive:
            break
        kills += 1
        effect += STRIDE
    assert kills > 5, "the child was hardly ever killed: the test proved nothing"


def test_uninstall_killed_anywhere_the_next_run_finishes(tmp_path: Path) -> None:
    effect, kills = 1, 0
    while True:
        box = FolderBox(tmp_path / f"{effect}", board="orin-nano-super")
        start = box.tree()
        apply(box.host)
        child = os.fork()
        if child == 0:
            Mortal.deadline, Mortal.before = effect, True
            try:
                mortal = Mortal(box.root, box.host.kind)
                install.uninstall(mortal, purge=False, log=lambda _: None)
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        install.uninstall(box.host, purge=False, log=lambda _: None)
        assert differences(start, box.tree()) == [], f"effect {effect}"
        box.stop()
        if not os.WIFSIGNALED(status):
            break
        kills += 1
        effect += STRIDE
    assert kills > 3, "the child was hardly ever killed: the test proved nothing"
