from __future__ import annotations

from pathlib import Path

import pytest

from ishowtts_ops.sim.tools.box import Box
from ishowtts_ops.sim.tools.kernel import store
from ishowtts_ops.sim.tree import build_box, cold_boot
from tests.service.sim.sim_box import SimBox

STATUS = "var/lib/nvpmodel/status"
PROMPT = (
    "NVPM ERROR: Error writing 0 to /sys/devices/platform/gpu.0/tpc_pg_mask: 16\n"
    "NVPM WARN: Reboot required for changing to this power mode: 0\n"
    "NVPM WARN: DO YOU WANT TO REBOOT NOW? enter YES/yes to confirm:\n"
)
NO_REQUEST = "NVPM ERROR: optMask is 1, no request for power mode\n"


def test_query(nano: SimBox) -> None:
    assert nano.say("nvpmodel", "-q") == (0, "NV Power Mode: 25W\n1\n")
    # Works without root, and reads the files rather than the hardware.
    assert nano.say("nvpmodel", "-q", ISHOWTTS_SIM_UID="1000")[0] == 0
    nano.put(STATUS, "pmode:0002")
    assert nano.say("nvpmodel", "--query") == (0, "NV Power Mode: MAXN_SUPER\n2\n")


@pytest.mark.parametrize("text", [None, "", "garbage", "pmode:", "pmode:0042"])
def test_query_without_a_mode(nano: SimBox, text: str | None) -> None:
    if text is None:
        (nano.root / STATUS).unlink()
    else:
        nano.put(STATUS, text)
    assert nano.say("nvpmodel", "-q") == (0, "NVPM WARN: power mode is not set!\n")


def test_verbose_query_as_a_nano_super_prints_it(nano: SimBox) -> None:
    lines = nano.lines("nvpmodel", "-q", "--verbose")
    assert lines[:4] == [
        "NVPM VERB: Config file: /etc/nvpmodel.conf",
        "NVPM VERB: parsing done for /etc/nvpmodel.conf",
        "NVPM VERB: Current mode: NV Power Mode: 25W",
        "1",
    ]
    cpu = "/sys/devices/system/cpu/cpu0"
    gpu = "/sys/devices/platform/17000000.gpu/devfreq_dev"
    for line in (
        f"PARAM CPU_ONLINE: ARG CORE_0: PATH {cpu}/online: REAL_VAL: 1 CONF_VAL: 1",
        "PARAM TPC_POWER_GATING: ARG TPC_PG_MASK: "
        "PATH /sys/devices/platform/gpu.0/tpc_pg_mask: REAL_VAL: 240 CONF_VAL: 240",
        "PARAM GPU_POWER_CONTROL_ENABLE: ARG GPU_PWR_CNTL_EN: "
        "PATH /sys/devices/platform/gpu.0/power/control: REAL_VAL: auto CONF_VAL: on",
        f"PARAM CPU_A78_0: ARG MAX_FREQ: PATH {cpu}/cpufreq/scaling_max_freq: "
        "REAL_VAL: 1344000 CONF_VAL: 1344000",
        f"PARAM GPU: ARG MIN_FREQ: PATH {gpu}/min_freq: REAL_VAL: 306000000 CONF_VAL: 0",
        f"PARAM GPU: ARG MAX_FREQ: PATH {gpu}/max_freq: REAL_VAL: 918000000 CONF_VAL: 918000000",
        "PARAM EMC: ARG MAX_FREQ: PATH /sys/kernel/nvpmodel_clk_cap/emc: "
        "REAL_VAL: 3199000000 CONF_VAL: 3199000000",
    ):
        assert f"NVPM VERB: {line}" in lines
    nano.say("nvpmodel", "-m", "2")
    assert any(
        line.endswith("max_freq: REAL_VAL: 1020000000 CONF_VAL: 9223372036854775807")
        for line in nano.lines("nvpmodel", "-q", "--verbose")
    )


def test_setting_a_mode_is_silent(nano: SimBox) -> None:
    assert nano.say("nvpmodel", "-m", "2") == (0, "")
    assert (nano.root / STATUS).read_bytes() == b"pmode:0002"
    assert (nano.cpu(0, "max"), nano.gpu("max")) == (1728000, 1020000000)
    # Mode 0 is not the fastest here.
    assert nano.say("nvpmodel", "-m", "0") == (0, "")
    assert nano.gpu("max") == 612000000
    assert nano.read("sys/kernel/nvpmodel_clk_cap/emc") == "2133000000"


def test_setting_a_mode_undoes_the_lock_of_cpu_and_gpu(nano: SimBox) -> None:
    nano.say("jetson_clocks")
    assert nano.locked() == (True, True, True)
    assert nano.say("nvpmodel", "-m", "1") == (0, "")
    assert nano.locked() == (False, False, True)
    assert (nano.cpu(0, "min"), nano.gpu("min")) == (729600, 306000000)


def test_unknown_mode(nano: SimBox) -> None:
    expected = "NVPM ERROR: request for bad power mode 9\n" + NO_REQUEST
    assert nano.say("nvpmodel", "-m", "9") == (234, expected)
    assert nano.read(STATUS) == "pmode:0001"


def test_not_root(nano: SimBox) -> None:
    done = nano.say("nvpmodel", "-m", "2", ISHOWTTS_SIM_UID="1000")
    assert done == (255, "NVPM ERROR: failed to set power mode!\n")
    assert nano.gpu("max") == 918000000


def test_unknown_option_prints_usage_and_succeeds(nano: SimBox) -> None:
    status, text = nano.say("nvpmodel", "--frobnicate")
    assert status == 0
    assert "Usage:" in text
    assert "stand-in" in text


def test_missing_configuration(nano: SimBox) -> None:
    (nano.root / "etc/nvpmodel.conf").unlink()
    status, text = nano.say("nvpmodel", "-q")
    assert status == 234
    assert text.startswith("NVPM ERROR: ")


def test_early_in_boot_a_write_fails(nano: SimBox) -> None:
    (nano.root / "sys/devices/platform/17000000.gpu/devfreq_dev").unlink()
    status, text = nano.say("nvpmodel", "-m", "2")
    assert status == 255
    assert text.splitlines()[0].startswith("NVPM ERROR: Error opening /sys/devices/platform/")
    assert text.splitlines()[0].endswith(": 2")
    assert text.splitlines()[1] == "NVPM ERROR: failed to set power mode!"
    assert nano.read(STATUS) == "pmode:0001"


@pytest.mark.parametrize(
    ("answer", "after"),
    [
        ("", "NVPM ERROR: bad input!\n" + NO_REQUEST),
        ("\n", "NVPM ERROR: bad input!\n" + NO_REQUEST),
        ("no\n", NO_REQUEST),
    ],
)
def test_reboot_prompt_declined(agx: SimBox, answer: str, after: str) -> None:
    assert agx.say("nvpmodel", "-m", "0", stdin=answer) == (234, PROMPT + after)
    assert agx.read(STATUS) == "pmode:0002"
    assert agx.gpu("max") == 612000000
    assert not (agx.root / "run/reboot-requested").exists()


@pytest.mark.parametrize("answer", ["yes", "YES", "y"])
def test_reboot_prompt_accepted(agx: SimBox, answer: str) -> None:
    done = agx.say("nvpmodel", "-m", "0", stdin=f"{answer}\n")
    assert done == (0, PROMPT + "NVPM WARN: rebooting..\n")
    assert (agx.root / STATUS).read_bytes() == b"pmode:0000"
    assert (agx.root / "run/reboot-requested").exists()
    # Nothing is applied before the reboot.
    assert agx.gpu("max") == 612000000


def test_force_reboots_without_asking(agx: SimBox) -> None:
    status, text = agx.say("nvpmodel", "-m", "0", "--force")
    assert status == 0
    assert "DO YOU WANT" not in text
    assert text.endswith("NVPM WARN: rebooting..\n")
    assert agx.read(STATUS) == "pmode:0000"


def test_after_a_cold_boot_the_stored_mode_needs_no_reboot(agx: SimBox) -> None:
    agx.put(STATUS, "pmode:0000")
    cold_boot(agx.root)
    assert agx.say("nvpmodel", "-f", "/etc/nvpmodel.conf") == (0, "")
    assert agx.gpu("max") == 1300500000
    assert agx.read("sys/devices/system/cpu/online") == "0-11"
    # From now on the GPU counts as used, and going back is refused.
    assert agx.say("nvpmodel", "-m", "2")[0] == 234


def test_the_mask_of_a_used_gpu_is_fixed(agx: SimBox) -> None:
    box, mask = Box(agx.root), "/sys/devices/platform/gpu.0/tpc_pg_mask"
    store(box, mask, 240)
    with pytest.raises(OSError, match="busy"):
        store(box, mask, 0)
    cold_boot(agx.root)
    store(box, mask, 240)
    assert agx.number(mask[1:]) == 240


def test_which_pairs_of_modes_need_a_reboot(fast_path: Path) -> None:
    for board, mode, refused in (
        ("orin-nx-16", "0", True),
        ("orin-nx-16-super", "0", False),
        ("agx-orin-64", "3", True),
        ("orin-nano-super", "0", False),
    ):
        build_box(fast_path / board, board)
        status, text = SimBox(fast_path / board).say("nvpmodel", "-m", mode)
        assert (status == 234, "Reboot required" in text) == (refused, refused), board


def test_the_path_of_the_mask_in_r35(fast_path: Path) -> None:
    build_box(fast_path / "b", "agx-orin-64@35.3.1")
    _, text = SimBox(fast_path / "b").say("nvpmodel", "-m", "0", stdin="no\n")
    first = text.splitlines()[0]
    assert first == "NVPM ERROR: Error writing 0 to /sys/devices/gpu.0/tpc_pg_mask: 16"


def test_outside_a_simulated_box_it_says_what_it_is(nano: SimBox, fast_path: Path) -> None:
    (fast_path / "empty").mkdir()
    done = nano.run("nvpmodel", "-q", ISHOWTTS_BOX_ROOT=str(fast_path / "empty"))
    assert done.returncode == 3
    assert "stand-in" in done.stderr
