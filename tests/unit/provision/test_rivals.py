"""Others who set the clocks: kept from it when the owner says so, brought back by uninstall."""

from __future__ import annotations

from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import ReadOnlyViolation
from ishowtts_ops.facts import rivals as rival_facts
from ishowtts_ops.facts.rivals import JTOP_DROP_IN
from ishowtts_ops.host import Host
from ishowtts_ops.provision import install
from ishowtts_ops.provision.rivals import RivalsStep, bring_back, switched_off
from ishowtts_ops.steps import Change, Ledger
from tests.support.folder import FolderBox, differences
from tests.support.simboxes import sim_box
from tests.support.tree import snapshot

NANO = "orin-nano-super"
UNITS = "/etc/systemd/system"


def step(host: Host) -> RivalsStep:
    return RivalsStep(Settings(), Ledger.open(host))


def change(host: Host) -> Change:
    found = step(host).diff(host)
    assert found is not None
    return found


def service(
    host: Host, name: str, command: str = "/bin/sleep 1000", *, enable: bool = True
) -> None:
    """A unit of somebody else's package."""
    host.write(
        f"/usr/lib/systemd/system/{name}",
        f"[Service]\nExecStart={command}\n[Install]\nWantedBy=multi-user.target\n",
    )
    if enable:
        host.run(["systemctl", "enable", name]).check()


def in_charge(host: Host) -> list[str]:
    return [rival.name for rival in rival_facts.read(host).in_charge]


@pytest.mark.parametrize(
    ("fault", "unit"),
    [
        ("rival-tuned", "tuned.service"),
        ("rival-auto-cpufreq", "auto-cpufreq.service"),
        ("rival-ppd", "power-profiles-daemon.service"),
        ("rival-unit", "jetson_clocks.service"),
    ],
)
def test_a_rival_is_switched_off_and_its_file_stays(tmp_path: Path, fault: str, unit: str) -> None:
    host = sim_box(tmp_path, NANO, fault)
    text = host.read_text(f"{UNITS}/{unit}")
    found = change(host)
    assert f"$ systemctl disable --now {unit}" in found.preview
    found.apply(lambda _: None)
    assert in_charge(host) == []
    assert step(host).diff(host) is None
    assert host.read_text(f"{UNITS}/{unit}") == text
    assert switched_off(Ledger.open(host)) == (unit,)


def test_looking_changes_nothing(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO, "rival-tuned", "rival-ppd")
    before = snapshot(host.root, ("/",), ())
    found = step(host).diff(host.read_only())
    assert found is not None
    assert snapshot(host.root, ("/",), ()) == before
    with pytest.raises(ReadOnlyViolation):
        found.apply(lambda _: None)


def test_what_ran_runs_again_after_uninstall(tmp_path: Path) -> None:
    box = FolderBox(tmp_path / "box", board=NANO)
    try:
        host = box.host
        service(host, "tuned.service")
        service(host, "auto-cpufreq.service")
        host.run(["systemctl", "start", "tuned.service"]).check()
        before = box.tree()
        change(host).apply(lambda _: None)
        assert in_charge(host) == []
        assert not host.is_symlink(f"{UNITS}/multi-user.target.wants/tuned.service")
        plan = install.uninstall_plan(host, Ledger.open(host))
        assert any("tuned.service" in line for undo in plan for line in undo.lines)
        done = install.uninstall(host, purge=False, log=lambda _: None)
        assert done.problems == ()
        assert differences(before, box.tree()) == []
        states = [
            host.query(["systemctl", "is-active", name]).stdout.strip()
            for name in ("tuned.service", "auto-cpufreq.service")
        ]
        assert states == ["active", "inactive"], "as each was before"
    finally:
        box.stop()


def test_jtop_is_ordered_after_our_lock_and_goes_on_running(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO, "rival-jtop")
    service(host, "jtop.service", "/usr/local/bin/jtop --force")
    config = host.read_text("/usr/local/jtop/config.json")
    assert in_charge(host) == ["jtop"]
    change(host).apply(lambda _: None)
    assert "After=ishowtts-clocks.service" in host.read_text(JTOP_DROP_IN)
    assert in_charge(host) == []
    assert host.is_symlink(f"{UNITS}/multi-user.target.wants/jtop.service")
    assert host.read_text("/usr/local/jtop/config.json") == config, "jtop's file is jtop's"
    ledger = Ledger.open(host)
    ledger.restore_files()
    assert not host.exists(JTOP_DROP_IN)
    assert in_charge(host) == ["jtop"]


@pytest.mark.parametrize(
    "command",
    [
        "/opt/app/run --fast\nExecStartPre=/usr/bin/jetson_clocks",
        "/bin/sh -c 'jetson_clocks && exec /opt/app/run'",
    ],
)
def test_a_service_that_also_locks_clocks_is_nobodys_to_switch_off(
    tmp_path: Path, command: str
) -> None:
    host = sim_box(tmp_path, NANO)
    service(host, "app.service", command)
    assert in_charge(host) == ["app.service"]
    assert step(host).diff(host) is None


@pytest.mark.parametrize(
    "command",
    [
        "/usr/bin/jetson_clocks",
        "/bin/sh -c 'sleep 60; /usr/bin/jetson_clocks'",
        '/bin/bash -c "nvpmodel -m 0 && jetson_clocks"',
    ],
)
def test_a_unit_that_does_nothing_else_is(tmp_path: Path, command: str) -> None:
    host = sim_box(tmp_path, NANO)
    service(host, "my-clocks.service", command)
    assert "$ systemctl disable --now my-clocks.service" in change(host).preview


def test_rc_local_is_a_persons(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    host.write("/etc/rc.local", "#!/bin/sh\njetson_clocks\n")
    assert in_charge(host) == ["rc.local"]
    assert step(host).diff(host) is None


def test_nobody_is_in_the_way_of_a_box_that_locks_nothing(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO, "rival-tuned")
    settings = Settings.model_validate({"power": {"lock_clocks": False}})
    assert RivalsStep(settings, Ledger.open(host)).diff(host) is None


def test_install_leaves_others_alone_unless_it_is_told(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO, "rival-tuned")
    steps = install.all_steps(Settings(), Ledger.open(host), "", replace_config=False)
    assert "rivals" not in [s.name for s in install.choose(steps, [])]
    assert [s.name for s in install.choose(steps, ["rivals"])] == ["rivals"]
    order = [s.name for s in steps]
    assert order.index("rivals") < order.index("power"), "what they left behind is set right after"


def test_a_rival_that_does_not_start_again_is_said(tmp_path: Path) -> None:
    host = sim_box(tmp_path, NANO)
    ledger = Ledger.open(host)
    ledger.note("rival:gone.service", {"active": True})
    ledger.note("rival:quiet.service", {"active": False})
    problems = bring_back(host, ledger, lambda _: None)
    assert len(problems) == 1 and problems[0].startswith("gone.service ran before install")
