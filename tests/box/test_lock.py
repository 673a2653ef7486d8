"""Who may change the box when: what works by itself must not be in a person's way."""

from __future__ import annotations

import yaml

from tests.support.container import Box, eventually
from tests.support.installed import CONFIG, Daemon, configure, install, unlocked
from tests.support.ports import free_port

WATCH = "ishowtts-watch.service"
GUARD = "ishowtts-guard.service"


def test_edit_then_install(box: Box) -> None:
    """The documented order. The watch sees the edit too and begins to validate it: install waits
    for it and then ends well."""
    configure(box, measure={"calendar": True, "idle_seconds": 0, "runs": 4, "workload": "S"})
    box.ops("install", "--yes")
    config = yaml.safe_load(box.read(CONFIG))
    config["daemon"]["port"] = free_port()
    box.write(CONFIG, yaml.safe_dump(config))
    eventually(
        lambda: "] the inference daemon" in box.journal(WATCH),
        "the watch is at work",
        timeout=60,
        evidence=lambda: box.why(WATCH),
    )
    box.ops("install", "--yes", timeout=280)
    assert Daemon(config["daemon"]["port"]).ready()


def test_install_while_the_guard_restores(box: Box) -> None:
    configure(box, power={"guard_seconds": 3600})
    install(box)
    for _ in range(3):
        box.exec("nvpmodel", "-m", "0")
        box.systemctl("start", "--no-block", GUARD)
        box.ops("install", "--yes")
        assert unlocked(box) == []
