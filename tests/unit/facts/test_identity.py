from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.facts.identity import (
    Release,
    jetpack_of,
    parse_mem_total,
    parse_release,
    parse_strings,
    read,
)
from ishowtts_ops.facts.modules import Module
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from tests.support.simboxes import sim_box


def line(major: str, revision: str) -> str:
    return (
        f"# R{major} (release), REVISION: {revision}, GCID: 1, BOARD: generic, EABI: aarch64, "
        "DATE: Fri Jan 16 03:50:45 UTC 2026\n# KERNEL_VARIANT: oot\n"
        "TARGET_USERSPACE_LIB_DIR=nvidia\n"
    )


@pytest.mark.parametrize(
    ("major", "revision", "shown", "jetpack"),
    [
        ("35", "3.1", "R35.3.1", "5.1.1"),
        ("36", "3.0", "R36.3", "6.0"),
        ("36", "4.0", "R36.4", "6.1"),
        ("36", "4.3", "R36.4.3", "6.2"),
        ("36", "4.4", "R36.4.4", "6.2.1"),
        ("36", "4.7", "R36.4.7", "6.2.1"),
        ("36", "5.0", "R36.5", "6.2.2"),
        ("38", "4.0", "R38.4", "7.1"),
        ("39", "2.1", "R39.2.1", "7.2.1"),
    ],
)
def test_release_and_jetpack(major: str, revision: str, shown: str, jetpack: str) -> None:
    release = parse_release(line(major, revision))
    assert isinstance(release, Release)
    assert str(release) == shown
    assert release.known
    assert release.board == "generic"
    assert release.date == "Fri Jan 16 03:50:45 UTC 2026"
    assert jetpack_of(release) == jetpack


def test_an_unknown_release_is_a_value_with_a_reason() -> None:
    release = parse_release(line("47", "1.0"))
    assert isinstance(release, Release)
    assert not release.known
    jetpack = jetpack_of(release)
    assert isinstance(jetpack, Unknown)
    assert "R47.1" in jetpack.reason


@pytest.mark.parametrize(
    "text", ["", "\0\xff not a release", "# R (release), REVISION: 4.3", "R36"]
)
def test_no_release(text: str) -> None:
    release = parse_release(text)
    assert isinstance(release, Unknown)
    assert isinstance(jetpack_of(release), Unknown)


@given(st.text())
def test_any_text_as_release(text: str) -> None:
    assert isinstance(parse_release(text), (Release, Unknown))
    assert isinstance(parse_mem_total(text), (int, Unknown))


@given(st.integers(0, len(line("36", "4.3"))))
def test_a_truncated_release_is_never_another_one(cut: int) -> None:
    release = parse_release(line("36", "4.3")[:cut])
    assert isinstance(release, Unknown) or (release.major, release.minor) == (36, 4)
    if isinstance(release, Release) and cut > line("36", "4.3").index(","):
        assert release.patch in (0, 3)


@given(st.binary())
def test_any_bytes_as_device_tree_strings(data: bytes) -> None:
    assert all(text and "\0" not in text for text in parse_strings(data))


def test_device_tree_strings_end_with_nul() -> None:
    assert parse_strings(b"nvidia,p3701-0005\0nvidia,tegra234\0") == (
        "nvidia,p3701-0005",
        "nvidia,tegra234",
    )


@pytest.mark.parametrize(
    ("board", "key", "release"),
    [
        ("agx-orin-64", "agx-orin-64", "R36.4"),
        ("orin-nano-super", "orin-nano-8-super", "R36.4.3"),
        ("orin-nx-16@35.3.1", "orin-nx-16", "R35.3.1"),
        ("agx-orin-64@39.2.1", "agx-orin-64", "R39.2.1"),
    ],
)
def test_simulated_boxes_are_known(tmp_path: Path, board: str, key: str, release: str) -> None:
    found = read(sim_box(tmp_path, board).read_only())
    assert isinstance(found.module, Module)
    assert found.module.key == key
    assert str(found.release) == release
    assert found.is_jetson
    assert found.ram_fits is True


def test_the_kernels_other_device_tree_will_do(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    before = read(host)
    tree = "/sys/firmware/devicetree/base"
    files = {name: host.read_bytes(f"{tree}/{name}") for name in ("compatible", "model")}
    host.rmtree("/sys/firmware")
    host.remove("/proc/device-tree")
    for name, data in files.items():
        host.write(f"/proc/device-tree/{name}", data)
    assert read(host) == before


def test_too_little_memory_gives_a_wrong_module_away(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    host.write("/proc/meminfo", "MemTotal:       31432704 kB\nMemFree: 1 kB\n")
    assert read(host).ram_fits is False
    host.write("/proc/meminfo", "garbage")
    assert isinstance(read(host).ram_fits, Unknown)


def test_unknown_module_is_still_a_jetson(tmp_path: Path) -> None:
    found = read(sim_box(tmp_path, "agx-orin-64", "module-unknown"))
    assert isinstance(found.module, Unknown)
    assert "ACME Talking Box" in found.module.reason
    assert found.name == "ACME Talking Box"
    assert found.is_jetson
    assert isinstance(found.ram_fits, Unknown)


def test_compatible_wins_over_a_wrong_model(tmp_path: Path) -> None:
    found = read(sim_box(tmp_path, "agx-orin-64", "model-wrong"))
    assert isinstance(found.module, Module)
    assert found.module.key == "agx-orin-64"


def test_a_plain_machine_is_no_jetson(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    found = read(Host.at(tmp_path))
    assert not found.is_jetson
    assert found.name == "unknown box"
    assert isinstance(found.module, Unknown)
    assert isinstance(found.release, Unknown)


def test_an_offline_root_file_system_is_a_jetsons(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/nv_tegra_release").write_text(line("36", "4.3"))
    assert read(Host.at(tmp_path)).is_jetson
