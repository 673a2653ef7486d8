from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.facts import power
from ishowtts_ops.facts.nvpmodel import (
    STATUS_PATH,
    Conf,
    Mode,
    QueryAnswer,
    best_mode,
    parse_conf,
    parse_query,
    parse_status,
    status_bytes,
)
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import Host
from ishowtts_ops.sim.faults import apply_fault
from ishowtts_ops.sim.tree import build_box, cold_boot
from tests.support.simboxes import sim_box

CONF = """\
# comment
< PARAM TYPE=FILE NAME=CPU_ONLINE >
CORE_0 /sys/devices/system/cpu/cpu0/online
CORE_1 /sys/devices/system/cpu/cpu1/online

< PARAM TYPE=FILE NAME=TPC_POWER_GATING >
TPC_PG_MASK /sys/devices/gpu.0/tpc_pg_mask

< PARAM TYPE=CLOCK NAME=CPU_A78_0 >
MAX_FREQ /sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq
MIN_FREQ /sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq

< PARAM TYPE=CLOCK NAME=GPU >
MAX_FREQ /sys/devices/gpu.0/devfreq/max_freq

<PARAM TYPE=CLOCK NAME=EMC >
MAX_FREQ /sys/kernel/nvpmodel_emc_cap/emc_iso_cap

< POWER_MODEL ID=0 NAME=15W >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 0
TPC_POWER_GATING TPC_PG_MASK 252
CPU_A78_0 MIN_FREQ 729600
CPU_A78_0 MAX_FREQ 1420800
GPU MAX_FREQ 612000000
EMC MAX_FREQ 3199000000

< POWER_MODEL ID=3 NAME=MODE_25W >
CPU_ONLINE CORE_0 1
CPU_ONLINE CORE_1 1
TPC_POWER_GATING TPC_PG_MASK 240
CPU_A78_0 MAX_FREQ -1
GPU MAX_FREQ 408000000
EMC MAX_FREQ 0

< FAN_CONFIG DEFAULT=quiet >
< PM_CONFIG DEFAULT=0 >
"""


def conf_of(text: str) -> Conf:
    found = parse_conf(text.encode())
    assert isinstance(found, Conf)
    return found


# ---- conf -------------------------------------------------------------------------------------


def test_conf_with_everything_that_is_odd_about_it() -> None:
    conf = conf_of(CONF)
    assert conf.problems == ()
    assert conf.default == 0
    assert [(mode.id, mode.name) for mode in conf.modes] == [(0, "15W"), (3, "MODE_25W")]
    emc = conf.param("EMC")
    assert emc is not None
    assert emc.kind == "CLOCK"
    low, high = conf.modes
    assert low.caps("EMC") == [3199000000.0], "more than 32 bits"
    assert high.caps("EMC") == [float("inf")], "0 is not a cap"
    assert high.caps("CPU") == [float("inf")]
    assert (low.cores_online, high.cores_online) == (1, 2)
    assert (low.tpc_pg_mask, high.tpc_pg_mask) == (252, 240)
    assert conf.path(low.settings[0]) == "/sys/devices/system/cpu/cpu0/online"


def test_the_least_capped_mode_counts_the_gpus_width() -> None:
    """4 TPCs at 408 MHz do more than 2 at 612 MHz."""
    assert best_mode(conf_of(CONF)).name == "MODE_25W"


def test_best_mode_by_name_not_by_id() -> None:
    text = CONF.replace("NAME=15W", "NAME=MAXN").replace("MODE_25W", "MAXN_SUPER")
    assert best_mode(conf_of(text)).id == 3
    assert best_mode(conf_of(CONF.replace("NAME=15W", "NAME=MAXN"))).id == 0


@pytest.mark.parametrize("name", ["MODE_25W", "mode_25w", "25W", "25w", " 25w "])
def test_a_mode_by_any_spelling_of_its_name(name: str) -> None:
    found = conf_of(CONF).find(name)
    assert found is not None
    assert found.id == 3


def test_an_exact_name_comes_first() -> None:
    text = CONF.replace("NAME=15W", "NAME=25W")
    found = conf_of(text).find("MODE_25W")
    assert found is not None
    assert found.id == 3


@pytest.mark.parametrize("board", ["agx-orin-64", "orin-nx-16@35.3.1", "orin-nano-4", "orin-nx-8"])
def test_confs_of_simulated_boxes_are_whole(tmp_path: Path, board: str) -> None:
    facts = power.read(sim_box(tmp_path, board).read_only())
    assert isinstance(facts.conf, Conf)
    assert facts.conf.problems == ()
    assert facts.conf_fits is True
    assert isinstance(facts.best, Mode)
    wanted = {"orin-nano-4": "10W"}.get(board, "MAXN")
    assert facts.best.name == wanted


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("< PM_CONFIG DEFAULT=0 >\n", "", "cut off"),
        ("< PM_CONFIG DEFAULT=0 >\n", "< PM_CONFIG DEFAULT=7 >", "default mode 7"),
        ("ID=3", "ID=0", "twice"),
        ("ID=3 ", "", "numeric ID"),
        ("< PARAM TYPE=CLOCK NAME=GPU >", "< PARAM TYPE=CLOCK NAME=GPU", "not complete"),
        ("TYPE=CLOCK NAME=GPU", "TYPE=GUESS NAME=GPU", "TYPE=FILE or TYPE=CLOCK"),
        ("CPU_ONLINE CORE_0 1", "CPU_ONLINE CORE_0", "does not fit"),
        ("CPU_ONLINE CORE_0 1", "CPU_ONLINE CORE_9 1", "has no path"),
    ],
)
def test_a_damaged_conf_says_what_is_wrong(old: str, new: str, said: str) -> None:
    conf = conf_of(CONF.replace(old, new, 1))
    assert any(said in str(problem) for problem in conf.problems), conf.problems


@pytest.mark.parametrize("data", [b"", b"\n \n", b"\0\0", b"garbage", b"< PM_CONFIG DEFAULT=0 >"])
def test_no_conf_at_all(data: bytes) -> None:
    assert isinstance(parse_conf(data), Unknown)


@given(st.one_of(st.binary(), st.text(alphabet="<> PARAM_CONFIG=0-9\n").map(str.encode)))
@example(b"< POWER_MODEL ID=0 NAME=X >")
def test_any_bytes_as_conf(data: bytes) -> None:
    found = parse_conf(data)
    if isinstance(found, Conf):
        assert found.problems, "no garbage is a whole conf"
        assert best_mode(found) in found.modes


@given(st.integers(0, len(CONF) - 2))
def test_a_truncated_conf_is_never_taken_for_a_whole_one(cut: int) -> None:
    found = parse_conf(CONF[:cut].encode())
    assert isinstance(found, Unknown) or found.problems


def test_the_maximum_of_a_truncated_conf_is_not_guessed() -> None:
    cut = conf_of(CONF[: CONF.index("< POWER_MODEL ID=3")])
    with pytest.raises(OpsError, match="damaged"):
        power.wanted_mode(cut, "max")
    named = power.wanted_mode(cut, "15w")
    assert named is not None
    assert named.id == 0


def test_an_unknown_mode_gets_the_list_of_modes() -> None:
    with pytest.raises(UsageError, match="'TURBO' on the box") as caught:
        power.wanted_mode(conf_of(CONF), "TURBO", "the box")
    assert "15W (0), MODE_25W (3)" in caught.value.hint
    assert power.wanted_mode(conf_of(CONF), "leave") is None


# ---- status file and query --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "mode"), [(b"pmode:0002", 2), (b"pmode:0000\n", 0), (b"pmode:0001 fmode:quiet", 1)]
)
def test_status(data: bytes, mode: int) -> None:
    assert parse_status(data) == mode


@pytest.mark.parametrize(
    "data", [b"", b"pmode:", b"pmode:2", b"pm\0de:\x01", b"pmode:000x", b"\xff"]
)
def test_a_broken_status(data: bytes) -> None:
    assert isinstance(parse_status(data), Unknown)


@given(st.binary(max_size=40))
def test_any_bytes_as_status(data: bytes) -> None:
    found = parse_status(data)
    assert isinstance(found, Unknown) or data.startswith(status_bytes(found))


VERBOSE = """\
NVPM VERB: Config file: /etc/nvpmodel.conf
NVPM VERB: parsing done for /etc/nvpmodel.conf
NVPM VERB: Current mode: NV Power Mode: 25W
1
NVPM VERB: PARAM CPU_ONLINE: ARG CORE_0: PATH /sys/x: REAL_VAL: 1 CONF_VAL: 1
"""


@pytest.mark.parametrize(
    ("output", "name", "mode", "warned"),
    [
        ("NV Power Mode: MAXN\n0\n", "MAXN", 0, 0),
        ("NVPM WARN: patching tpc_pg_mask\nNV Power Mode: MODE_30W\n2\n", "MODE_30W", 2, 1),
        ("NV Fan Mode:quiet\nNV Power Mode: MAXN_SUPER\n2\n", "MAXN_SUPER", 2, 0),
        (VERBOSE, "25W", 1, 0),
    ],
)
def test_query(output: str, name: str, mode: int, warned: int) -> None:
    found = parse_query(output)
    assert isinstance(found, QueryAnswer)
    assert (found.name, found.id, len(found.warnings)) == (name, mode, warned)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("NVPM WARN: power mode is not set!\n", "no power mode is set"),
        ("NVPM ERROR: Error opening /etc/nvpmodel.conf: 2\n", "Error opening"),
        ("bash: nvpmodel: Kommando nicht gefunden.\n", "Kommando nicht gefunden"),
        ("", "empty"),
        ("NV Power Mode: MAXN\n", "not its id"),
        ("NV Power Mode: MAXN\nNVPM ERROR: x\n", "not its id"),
    ],
)
def test_a_query_without_an_answer(output: str, said: str) -> None:
    found = parse_query(output)
    assert isinstance(found, Unknown)
    assert said in found.reason


@given(st.text())
def test_any_text_as_query(output: str) -> None:
    assert isinstance(parse_query(output), (QueryAnswer, Unknown))


@given(st.integers(0, len(VERBOSE)))
def test_a_truncated_query_is_never_another_mode(cut: int) -> None:
    found = parse_query(VERBOSE[:cut])
    assert isinstance(found, Unknown) or (found.name, found.id) == ("25W", 1)


@pytest.mark.parametrize("verbose", [(), ("--verbose",)])
def test_query_of_a_box_agrees_with_the_facts(tmp_path: Path, verbose: tuple[str, ...]) -> None:
    host = sim_box(tmp_path, "orin-nano-super")
    found = parse_query(host.query(["nvpmodel", "-q", *verbose]).stdout)
    facts = power.read(host)
    assert isinstance(found, QueryAnswer)
    assert (found.name, found.id) == (facts.mode_name, facts.mode_id)


# ---- a box ------------------------------------------------------------------------------------


def test_a_box_whose_mode_is_in_force(tmp_path: Path) -> None:
    facts = power.read(sim_box(tmp_path, "agx-orin-64").read_only())
    assert facts.conf_path == "/etc/nvpmodel/nvpmodel_p3701_0000.conf"
    assert (facts.mode_id, facts.mode_name) == (2, "MODE_30W")
    assert facts.in_force is True
    assert facts.reboot_pending is False
    assert facts.effective == facts.mode
    assert facts.low_ceilings == ()
    assert {cap.what for cap in facts.caps} >= {"CPU 0-3", "CPU 4-7", "GPU", "GPU power gating"}


def test_a_staged_mode_is_not_in_force(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "agx-orin-64")
    host.write(STATUS_PATH, status_bytes(0))
    facts = power.read(host)
    assert facts.mode_name == "MAXN"
    assert facts.in_force is False
    assert facts.reboot_pending is True
    assert isinstance(facts.effective, Mode)
    assert facts.effective.name == "MODE_30W"
    assert all(cap.lower for cap in facts.off)
    assert "GPU: 612 MHz instead of 1300 MHz" in [str(cap) for cap in facts.off]


def test_limits_above_the_modes_are_off_as_well(tmp_path: Path) -> None:
    """After a cold boot no mode has been applied: the status file promises less than there is."""
    host = sim_box(tmp_path, "orin-nano-super")
    cold_boot(tmp_path / "box")
    facts = power.read(host)
    assert facts.mode_name == "25W"
    assert facts.in_force is False
    assert not any(cap.lower for cap in facts.off)


def test_super_mode_with_the_limits_of_old_firmware(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "orin-nano-super")
    assert host.run(["nvpmodel", "-m", "2"]).ok
    assert power.read(host).low_ceilings == ()
    apply_fault(tmp_path / "box", "super-plain-caps")
    facts = power.read(host)
    assert facts.mode_name == "MAXN_SUPER"
    assert facts.in_force is True
    assert "GPU: 625 MHz instead of 1020 MHz" in [str(cap) for cap in facts.low_ceilings]


def test_a_plain_device_tree_with_the_super_conf_is_the_trap_too(tmp_path: Path) -> None:
    """The conf promises super rates, so the super module's limits are what counts."""
    host = sim_box(tmp_path, "orin-nano-super", "super-plain-caps")
    tree = "/sys/firmware/devicetree/base/compatible"
    host.write(tree, b"nvidia,p3768-0000+p3767-0005\0nvidia,p3767-0005\0nvidia,tegra234\0")
    facts = power.read(host)
    assert facts.conf_fits is True, "the other conf of the same part"
    assert facts.low_ceilings


def test_the_conf_of_another_module(tmp_path: Path) -> None:
    host = sim_box(tmp_path, "orin-nano-super")
    host.write("/etc/nvpmodel/nvpmodel_p3701_0000.conf", CONF)
    host.symlink("/etc/nvpmodel/nvpmodel_p3701_0000.conf", "/etc/nvpmodel.conf")
    assert power.read(host).conf_fits is False


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        ("mode-missing", "no power mode was set yet"),
        ("mode-corrupt", "where `pmode:NNNN` is expected"),
        ("mode-unknown", "names mode 97"),
    ],
)
def test_a_mode_that_cannot_be_known(tmp_path: Path, fault: str, said: str) -> None:
    facts = power.read(sim_box(tmp_path, "agx-orin-64", fault))
    assert isinstance(facts.mode, Unknown)
    assert said in facts.mode.reason
    assert isinstance(facts.in_force, Unknown)
    assert isinstance(facts.reboot_pending, Unknown)
    assert isinstance(facts.effective, Mode), "the kernel's limits still tell"


def test_no_conf(tmp_path: Path) -> None:
    facts = power.read(sim_box(tmp_path, "agx-orin-64", "conf-missing"))
    assert isinstance(facts.conf, Unknown)
    assert isinstance(facts.conf_path, Unknown)
    assert isinstance(facts.mode, Unknown)
    assert isinstance(facts.best, Unknown)
    assert facts.mode_id == 2


def test_a_core_too_few(tmp_path: Path) -> None:
    facts = power.read(sim_box(tmp_path, "agx-orin-64", "core-offline"))
    assert [cap.what for cap in facts.off] == ["cores online"]


def test_a_missing_gpu_leaves_the_answer_open(tmp_path: Path) -> None:
    facts = power.read(sim_box(tmp_path, "agx-orin-64", "gpu-missing"))
    assert isinstance(facts.in_force, Unknown)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=12))
def test_garbage_in_a_limit_is_never_in_force(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    root = tmp_path_factory.getbasetemp() / "garbage-box"
    if not root.exists():
        build_box(root, "orin-nano-super")
    host = Host.at(root)
    path = "/sys/class/devfreq/17000000.gpu/max_freq"
    host.path(path).write_bytes(data)
    facts = power.read(host)
    if facts.in_force is True:
        assert abs(int(data.strip(b" \t\r\n\0")) - 918000000) <= 918000000 * power.RATE_TOLERANCE
