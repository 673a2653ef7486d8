"""Properties of the whole of install, on a simulated box in a folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops.config import CONFIG_PATH, parse
from ishowtts_ops.errors import NeedsRoot, UsageError
from ishowtts_ops.host import Host
from ishowtts_ops.provision import install
from ishowtts_ops.steps import Change, Ledger, Step
from tests.support.folder import FolderBox, differences

QUICK = ("config", "engine", "source", "patch", "weights", "voices", "power", "units")
"""Everything but starting the daemon, which takes most of the time."""


@pytest.fixture
def box(tmp_path: Path) -> Iterator[FolderBox]:
    made = FolderBox(tmp_path / "box", board="orin-nano-super")
    yield made
    made.stop()


def steps(host: Host, only: tuple[str, ...] = ()) -> list[Step]:
    text = host.read_text(CONFIG_PATH)
    settings = parse(text, CONFIG_PATH)
    return install.choose(
        install.all_steps(settings, Ledger.open(host), text, replace_config=False), only
    )


def apply(host: Host, only: tuple[str, ...] = ()) -> list[Change]:
    return install.apply(host, steps(host, only), log=lambda _: None, on_step=lambda *_: None)


def test_install_twice_is_install_once_and_uninstall_is_never(box: FolderBox) -> None:
    before = box.tree()
    made = apply(box.host)
    assert [change.step for change in made] == ["voices", "power", "units", "daemon"]
    installed = box.tree()
    assert apply(box.host) == []
    assert install.plan(box.host.read_only(), steps(box.host)) == []
    assert differences(installed, box.tree()) == []
    done = install.uninstall(box.host, purge=False, log=lambda _: None)
    assert (done.kept, done.problems) == ((), ())
    assert differences(before, box.tree()) == []


def test_a_plan_changes_nothing(box: FolderBox) -> None:
    before = box.tree()
    changes = install.plan(box.host.read_only(), steps(box.host.read_only()))
    assert [change.step for change in changes] == ["voices", "power", "units", "daemon"]
    assert all(change.preview for change in changes)
    assert differences(before, box.tree()) == []


def test_uninstall_keeps_what_its_owner_edited(box: FolderBox) -> None:
    box.host.remove(CONFIG_PATH)
    box.host.rmdir("/etc/ishowtts-ops")
    text = "engine: {kind: tone}\n"
    made = install.all_steps(parse(text, "x"), Ledger.open(box.host), text, replace_config=False)
    install.apply(box.host, made[:1], log=lambda _: None, on_step=lambda *_: None)
    box.host.write(CONFIG_PATH, text + "# mine\n")
    done = install.uninstall(box.host, purge=False, log=lambda _: None)
    assert done.kept == (CONFIG_PATH,)
    assert box.host.read_text(CONFIG_PATH).endswith("# mine\n")


def test_uninstalling_twice_is_uninstalling_once(box: FolderBox) -> None:
    apply(box.host, QUICK)
    install.uninstall(box.host, purge=False, log=lambda _: None)
    assert install.uninstall_plan(box.host, Ledger.open(box.host)) == []
    assert install.uninstall(box.host, purge=False, log=lambda _: None) == install.Uninstalled()


def test_an_unknown_step_is_refused_with_the_list(box: FolderBox) -> None:
    with pytest.raises(UsageError) as caught:
        install.choose(steps(box.host), ("power", "powr"))
    assert "powr" in caught.value.message
    assert "patch, weights" in caught.value.hint


def test_without_root_nothing_is_half_done(box: FolderBox) -> None:
    class Stranger(Host):
        def is_root(self) -> bool:
            return False

    before = box.tree()
    with pytest.raises(NeedsRoot, match="`voices`"):
        apply(Stranger(box.root, box.host.kind))
    assert differences(before, box.tree()) == []
