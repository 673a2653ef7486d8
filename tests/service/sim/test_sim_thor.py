"""AGX Thor: a GPU with two devfreq devices, of which a lock has to hold both."""

from __future__ import annotations

from pathlib import Path

import pytest

from ishowtts_ops.cli.app import run
from ishowtts_ops.config import CONFIG_PATH, Power, Settings
from ishowtts_ops.daemon.metrics_box import BoxReadings
from ishowtts_ops.doctor.finding import Severity
from ishowtts_ops.doctor.run import examine, select
from ishowtts_ops.facts import clocks, identity
from ishowtts_ops.facts.clocks_show import ShowReport, parse_show
from ishowtts_ops.facts.nvpmodel import STATUS_PATH
from ishowtts_ops.host import Host
from ishowtts_ops.provision.guard import GuardState, check_and_restore
from ishowtts_ops.provision.power import lock, look
from ishowtts_ops.sim.boot import reboot_folder
from ishowtts_ops.sim.faults import apply_fault
from tests.support.simboxes import sim_box

THOR = "agx-thor-t5000"
GPC, NVD = "/sys/class/devfreq/gpu-gpc-0", "/sys/class/devfreq/gpu-nvd-0"


def locked_box(tmp_path: Path) -> Host:
    host = sim_box(tmp_path, THOR)
    host.write(CONFIG_PATH, "engine: {kind: tone}\n")
    assert lock(host, Power(), log=lambda _: None, sleep=lambda _: None).ok
    return host


def shown(host: Host) -> tuple[list[str], ShowReport]:
    text = host.query(["jetson_clocks", "--show"]).stdout
    report = parse_show(text)
    assert isinstance(report, ShowReport)
    return text.splitlines(), report


def test_it_is_known_by_its_device_tree(tmp_path: Path) -> None:
    found = identity.read(sim_box(tmp_path, THOR))
    assert found.name == "Jetson AGX Thor T5000"
    assert found.model == "NVIDIA Jetson AGX Thor Developer Kit"
    assert found.ram_fits is True
    assert str(found.release) == "R39.2.1"


def test_both_devices_are_locked_and_shown(tmp_path: Path) -> None:
    host = locked_box(tmp_path)
    lines, report = shown(host)
    assert lines[:2] == [
        "SOC family:tegra264  Machine:NVIDIA Jetson AGX Thor Developer Kit",
        "Online CPUs: 0-13, Offline CPUs: ",
    ]
    assert "gpu-gpc-0 MinFreq=1575000000 MaxFreq=1575000000 CurrentFreq=1575000000" in lines
    assert "gpu-nvd-0 MinFreq=1692000000 MaxFreq=1692000000 CurrentFreq=1692000000" in lines
    assert "EMC MinFreq=4266000000 MaxFreq=4266000000 CurrentFreq=4266000000" in lines
    assert [gpu.name for gpu in report.gpus] == ["gpu-gpc-0", "gpu-nvd-0"]
    assert (report.cpu_locked, report.gpu_locked, report.emc_locked) == (True, True, True)
    assert BoxReadings(host).clocks_locked() == 1


@pytest.mark.parametrize("loose", [GPC, NVD])
def test_half_of_the_gpu_is_no_lock(
    tmp_path: Path, loose: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every reader sees it, says which rates are loose, and the guard brings it back."""
    host = locked_box(tmp_path)
    low = host.read_bytes(f"{loose}/available_frequencies").split()[0].decode()
    host.write_sysfs(f"{loose}/min_freq", f"{low}\n")
    found = clocks.read(host)
    assert isinstance(found.gpu, clocks.GpuClock)
    assert found.gpu_locked is False and found.loose == ("GPU",)
    assert found.gpu.loosest.path == loose
    assert shown(host)[1].gpu_locked is False
    assert BoxReadings(host).clocks_locked() == 0
    root = ("--root", str(host.root))
    assert run(["power", "status", *root]) == 1
    top = "1692" if loose == NVD else "1575"
    assert f"GPU 315 to {top} MHz" in " ".join(capsys.readouterr().out.split())
    assert run(["doctor", "clocks", *root]) == 1
    assert f"may fall from {top} MHz to 315 MHz" in " ".join(capsys.readouterr().out.split())
    assert run(["power", "guard", *root]) == 0
    assert clocks.read(host).locked is True


def test_restore_puts_both_back(tmp_path: Path) -> None:
    host = sim_box(tmp_path, THOR)
    before = {path: host.read_bytes(f"{path}/min_freq") for path in (GPC, NVD)}
    host.write(CONFIG_PATH, "engine: {kind: tone}\n")
    root = ("--root", str(host.root))
    assert run(["power", "lock", *root]) == 0
    assert all(host.read_bytes(f"{path}/min_freq") != before[path] for path in before)
    assert run(["power", "restore", *root]) == 0
    assert {path: host.read_bytes(f"{path}/min_freq") for path in before} == before


@pytest.mark.parametrize("fault", ["gpu-missing", "clocks-rerun", "gpu-capped", "thermal-throttle"])
def test_faults_find_its_gpu(tmp_path: Path, fault: str) -> None:
    host = locked_box(tmp_path)
    apply_fault(host.root, fault)
    assert run(["doctor", "clocks", "power", "heat", "--root", str(host.root)]) == 1


def test_a_part_that_was_cut_off_is_no_lock(tmp_path: Path) -> None:
    """The second device's line may be what is missing."""
    lines, _ = shown(locked_box(tmp_path))
    text = "".join(f"{line}\n" for line in lines)
    for cut in range(text.index("gpu-gpc-0"), text.index("EMC ")):
        report = parse_show(text[:cut])
        assert isinstance(report, ShowReport)
        assert not isinstance(report.gpu_locked, bool), text[:cut]


ASKS = """\
#!/bin/sh
# As the documented tool where a change of mode needs a reboot; else the stand-in's own answer.
[ "$1" = -m ] || exec "$0.real" "$@"
echo >>"$ISHOWTTS_BOX_ROOT/asked"
echo "NVPM WARN: Reboot required for changing to this power mode: $2"
echo "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:"
read answer
[ "$answer" = no ] || exit 3
echo "NVPM ERROR: optMask is 1, no request for power mode"
exit 234
"""


def test_a_mode_that_needs_a_reboot_is_asked_for_once(tmp_path: Path) -> None:
    """Thor's modes name no power gating by which a staged one could be told. It is remembered until
    the reboot: the guard neither asks nvpmodel again nor speaks of a loss."""
    host = sim_box(tmp_path, THOR)
    host.write(CONFIG_PATH, "engine: {kind: tone}\n")
    host.rename("/usr/sbin/nvpmodel", "/usr/sbin/nvpmodel.real")
    host.write("/usr/sbin/nvpmodel", ASKS, mode=0o755)
    report = lock(host, Power(), log=lambda _: None, sleep=lambda _: None)
    assert report.ok and report.reboot_needed, report.problems
    assert host.read_bytes(STATUS_PATH) == b"pmode:0000"
    for _ in range(2):
        seen = check_and_restore(host, Settings(), lambda _: None, sleep=lambda _: None)
        assert seen.state is GuardState.HELD
        assert seen.seen == ("MAXN is staged and takes effect with the next reboot.",)
    assert host.read_text("/asked").count("\n") == 1
    report_of = examine(host, Settings(), checks=select(["power"]))
    (staged,) = report_of.of("power-caps")
    assert staged.severity is Severity.WARN and "until then it is 120W" in staged.text
    assert staged.remedy is not None and staged.remedy.needs_reboot
    host.rename("/usr/sbin/nvpmodel.real", "/usr/sbin/nvpmodel")
    reboot_folder(host.root)
    after = look(host, Power())
    assert not after.staged and not after.mode_wrong
    assert after.power.mode_name == "MAXN" and after.power.in_force is True
