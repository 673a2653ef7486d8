from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.facts import rivals
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from tests.support.simboxes import sim_box

UNITS = "/etc/systemd/system"


def names(facts: rivals.RivalFacts) -> list[str]:
    return [rival.name for rival in facts.in_charge]


def unit(exec_start: str) -> str:
    return f"[Service]\nType=oneshot\nExecStart={exec_start}\n"


def test_nobody_on_a_fresh_box(tmp_path: Path) -> None:
    facts = rivals.read(sim_box(tmp_path, "agx-orin-64").read_only())
    assert facts.rivals == (), "NVIDIA's own units are no rivals"
    assert isinstance(facts.nvpmodel_reran, Unknown), "there is no lock unit to compare with"


@pytest.mark.parametrize(
    ("fault", "name"),
    [
        ("rival-tuned", "tuned"),
        ("rival-auto-cpufreq", "auto-cpufreq"),
        ("rival-ppd", "power-profiles-daemon"),
        ("rival-unit", "jetson_clocks.service"),
    ],
)
def test_each_rival(tmp_path: Path, fault: str, name: str) -> None:
    facts = rivals.read(sim_box(tmp_path, "orin-nano-super", fault))
    assert names(facts) == [name]
    assert facts.rivals[0].enabled


def test_jtop_counts_only_where_its_service_is(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64", "rival-jtop")
    found = rivals.read(host).rivals
    assert [(rival.name, rival.enabled) for rival in found] == [("jtop", False)]
    host.write(f"{UNITS}/jtop.service", unit("/usr/local/bin/jtop --force"))
    host.symlink(f"{UNITS}/jtop.service", f"{UNITS}/multi-user.target.wants/jtop.service")
    assert names(rivals.read(host)) == ["jtop"]


def test_jtop_that_leaves_the_clocks_alone(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    host.write("/usr/local/jtop/config.json", '{"jetson_clocks": {"boot": false}}')
    assert rivals.read(host).rivals == ()
    host.write("/usr/local/jtop/config.json", "{")
    assert "damaged" in rivals.read(host).rivals[0].detail


def test_installed_is_not_enabled(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    host.write("/usr/lib/systemd/system/tuned.service", unit("/usr/sbin/tuned"))
    found = rivals.read(host)
    assert [(rival.name, rival.enabled, rival.active) for rival in found.rivals] == [
        ("tuned", False, False)
    ]
    assert found.in_charge == ()


def test_masked_is_not_there(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64", "rival-tuned")
    host.write("/usr/lib/systemd/system/tuned.service", unit("/usr/sbin/tuned"))
    host.symlink("/dev/null", f"{UNITS}/tuned.service")
    assert rivals.read(host).rivals == ()


@pytest.mark.parametrize(
    ("command", "rival"),
    [
        ("/usr/bin/jetson_clocks", True),
        ("/bin/sh -c 'sleep 60; nvpmodel -m 0; jetson_clocks'", True),
        ("/usr/sbin/nvpmodel -m 2", True),
        ("/usr/sbin/nvpmodel -q", False),
        ("/usr/bin/true", False),
    ],
)
def test_hand_made_units(tmp_path: Path, command: str, rival: bool) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    host.write(f"{UNITS}/boost.service", unit(command))
    host.symlink(f"{UNITS}/boost.service", f"{UNITS}/multi-user.target.wants/boost.service")
    assert names(rivals.read(host)) == (["boost.service"] if rival else [])


def test_our_own_unit_is_no_rival(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    host.write(f"{UNITS}/{rivals.CLOCKS_UNIT}", unit("/usr/bin/jetson_clocks"))
    assert rivals.read(host).rivals == ()


def test_rc_local(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    host.write("/etc/rc.local", "#!/bin/sh\n# jetson_clocks\nexit 0\n")
    assert rivals.read(host).rivals == ()
    host.write("/etc/rc.local", "#!/bin/sh\n/usr/bin/jetson_clocks &\nexit 0\n")
    assert names(rivals.read(host)) == ["rc.local"]


def test_nvpmodel_that_ran_again(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    host.write(f"{UNITS}/{rivals.CLOCKS_UNIT}", unit("/bin/true"))
    assert host.run(["systemctl", "daemon-reload"]).ok
    assert rivals.read(host).lock_ran is False
    assert host.run(["systemctl", "start", rivals.CLOCKS_UNIT]).ok
    facts = rivals.read(host)
    assert (facts.lock_ran, facts.nvpmodel_reran) == (True, False)
    assert host.run(["systemctl", "start", "nvpmodel.service"]).ok
    assert rivals.read(host).nvpmodel_reran is True


def test_offline_boxes_are_read_off_their_files(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    host.write(f"{UNITS}/tuned.service", unit("/usr/sbin/tuned"))
    host.symlink(f"{UNITS}/tuned.service", f"{UNITS}/multi-user.target.wants/tuned.service")
    facts = rivals.read(host)
    assert names(facts) == ["tuned"]
    assert isinstance(facts.rivals[0].active, Unknown)
    assert isinstance(facts.nvpmodel_reran, Unknown)


@given(st.text())
def test_any_text_from_systemctl_and_jtop(text: str) -> None:
    assert all(stamp >= 0 for stamp in rivals.parse_starts(text).values())
    assert isinstance(rivals.parse_jtop_boot(text), (bool, Unknown))


def test_starts() -> None:
    text = (
        "Id=nvpmodel.service\nExecMainStartTimestampMonotonic=81234\n\n"
        "Id=never.service\nExecMainStartTimestampMonotonic=0\n\nId=cut.service\nExecMainSt"
    )
    assert rivals.parse_starts(text) == {"nvpmodel.service": 81234, "never.service": 0}
