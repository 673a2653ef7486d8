from __future__ import annotations

import configparser
import re
from pathlib import Path

import pytest

from ishowtts_ops.config import Settings
from ishowtts_ops.host import Host
from ishowtts_ops.provision.units import (
    CLOCKS,
    DAEMON,
    GUARD_TIMER,
    UNIT_DIR,
    install_links,
    rendered,
    wanted_units,
)


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host.at(tmp_path)


def unit(host: Host, name: str, settings: Settings) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    parser.read_string(rendered(host, settings)[f"{UNIT_DIR}/{name}"])
    return parser


def test_nothing_is_left_to_fill_in(host: Host) -> None:
    for path, text in rendered(host, Settings()).items():
        assert not re.search(r"@\w+@", text), path


def test_only_groups_that_exist_are_named(host: Host) -> None:
    assert not unit(host, DAEMON, Settings()).has_option("Service", "SupplementaryGroups")
    host.write("/etc/group", "root:x:0:\nvideo:x:44:\nrender:x:104:\n")
    assert unit(host, DAEMON, Settings()).get("Service", "SupplementaryGroups") == "video render"
    host.write("/etc/group", "video:x:44:\n")
    assert unit(host, DAEMON, Settings()).get("Service", "SupplementaryGroups") == "video"


def test_settings_reach_the_units(host: Host) -> None:
    settings = Settings.model_validate(
        {"daemon": {"watchdog_seconds": 7, "drain_seconds": 3}, "power": {"guard_seconds": 11}}
    )
    assert unit(host, DAEMON, settings).get("Service", "WatchdogSec") == "7"
    assert int(unit(host, DAEMON, settings).get("Service", "TimeoutStopSec")) > 3
    assert unit(host, GUARD_TIMER, settings).get("Timer", "OnUnitActiveSec") == "11"


def test_the_lock_comes_after_nvpmodel_and_before_the_daemon(host: Host) -> None:
    clocks, daemon = unit(host, CLOCKS, Settings()), unit(host, DAEMON, Settings())
    assert "nvpmodel.service" in clocks.get("Unit", "After").split()
    assert CLOCKS in daemon.get("Unit", "After").split()
    # Field units that were ordered after their own target were dropped as an ordering cycle.
    assert "multi-user.target" not in clocks.get("Unit", "After")
    assert not clocks.has_option("Unit", "DefaultDependencies")


def test_an_owner_who_wants_no_lock_gets_no_lock_units() -> None:
    settings = Settings.model_validate({"power": {"mode": "leave", "lock_clocks": False}})
    assert CLOCKS not in wanted_units(settings)
    assert DAEMON in wanted_units(settings)
    only_mode = Settings.model_validate({"power": {"lock_clocks": False}})
    assert CLOCKS in wanted_units(only_mode)


def test_links_are_read_off_the_install_section() -> None:
    text = "[Install]\nWantedBy=a.target b.target\nWantedBy=c.target\n"
    assert set(install_links("x.service", text)) == {
        f"{UNIT_DIR}/{target}.target.wants/x.service" for target in "abc"
    }
