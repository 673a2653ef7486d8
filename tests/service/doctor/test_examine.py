"""What doctor does around its checks: order, limits, exit codes, JSON, preflight, fix."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest

from ishowtts_ops.config import CONFIG_PATH, Settings
from ishowtts_ops.doctor.checks import ALL_CHECKS
from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import STEPS, Check, Evidence, Finding, Severity, known, mend
from ishowtts_ops.doctor.fix import fix
from ishowtts_ops.doctor.report import Report
from ishowtts_ops.doctor.run import examine, preflight, select
from ishowtts_ops.doctor.under_load import Load, put_under_load
from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.facts.daemon_health import NotRunning
from ishowtts_ops.facts.disk import Disk, Space
from ishowtts_ops.facts.gather import Facts
from ishowtts_ops.facts.nvpmodel import CONF_PATH, STATUS_PATH
from ishowtts_ops.facts.python_env import KernelLaunch, PythonEnv
from ishowtts_ops.facts.systemd import NoSystemd, Systemd
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.host import SIM_MARKER, Host
from ishowtts_ops.provision import install
from ishowtts_ops.provision.power import lock, record_before
from ishowtts_ops.provision.units import CLOCKS
from ishowtts_ops.sim.faults import apply_fault
from ishowtts_ops.sim.tree import build_box
from ishowtts_ops.steps import LEDGER_PATH, Ledger
from tests.service.doctor.breaking import submodule
from tests.service.doctor.conftest import Template
from tests.service.doctor.healthy import HealthyBox
from tests.support.f5 import UTILS
from tests.support.folder import FolderBox, differences
from tests.support.tree import snapshot

Take = Callable[..., HealthyBox]
Templates = Callable[[str], Template]
AGX = "agx-orin-64"
GIB = 1 << 30


def finding(check: str, severity: Severity, effect: float | None = None) -> Finding:
    return Finding(check, severity, "Something is.", (Evidence("/x", "1"),), None, effect)


def always(found: Finding) -> Callable[[Examination], list[Finding]]:
    return lambda _: [found]


def report_of(box: HealthyBox, facts: Facts, *checks: Check) -> Report:
    return examine(box.host, box.settings, checks=checks, facts=facts)


# ---- the runner ------------------------------------------------------------------------------


def test_the_catalogue_is_sound() -> None:
    ids = [check.id for check in ALL_CHECKS]
    assert len(ids) == len(set(ids))
    for check in ALL_CHECKS:
        assert check.id.startswith(f"{check.subject}-"), check.id
        assert (
            check.title[0].isupper()
            or check.title.startswith(("systemd", "iShow", "nvpmodel", "numpy", "torch"))
        ) and not check.title.endswith(".")
    assert {c.id for c in ALL_CHECKS if c.blocks_install} == {
        "box-jetson",
        "box-systemd",
        "box-root",
        "disk-install",
        "engine-python",
        "patch-edits",
    }


def test_worst_comes_first_then_the_greatest_effect(
    healthy: Take, healthy_templates: Templates
) -> None:
    rows = [
        ("a", Severity.OK, None),
        ("b", Severity.WARN, 4.0),
        ("c", Severity.ERROR, None),
        ("d", Severity.ERROR, 2.1),
        ("e", Severity.UNKNOWN, None),
        ("f", Severity.INFO, None),
    ]
    checks = [
        Check(name, "x", name, always(finding(name, severity, effect)))
        for name, severity, effect in rows
    ]
    report = report_of(healthy(), healthy_templates(AGX).facts, *checks)
    assert [f.check for f in report.findings] == ["d", "c", "b", "e", "f", "a"]


@pytest.mark.parametrize(
    ("severities", "code"),
    [
        ((), 0),
        ((Severity.OK, Severity.INFO), 0),
        ((Severity.WARN,), 0),
        ((Severity.WARN, Severity.UNKNOWN), 3),
        ((Severity.UNKNOWN, Severity.ERROR), 1),
    ],
)
def test_exit_codes(
    severities: Sequence[Severity], code: int, healthy: Take, healthy_templates: Templates
) -> None:
    found = [finding("x", severity) for severity in severities]
    check = Check("x", "x", "X", lambda _: found)
    assert report_of(healthy(), healthy_templates(AGX).facts, check).exit_code == code


def test_a_check_that_breaks_or_hangs_is_unknown_and_the_others_are_told(
    healthy: Take, healthy_templates: Templates, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def breaks(_: Examination) -> list[Finding]:
        raise KeyError("gone")

    def hangs(_: Examination) -> list[Finding]:
        fifo.read_text()
        return []

    report = report_of(
        healthy(),
        healthy_templates(AGX).facts,
        Check("x-breaks", "x", "It breaks", breaks),
        Check("x-hangs", "x", "It hangs", hangs, limit_s=0.2),
        Check("x-fine", "x", "It is fine", lambda _: [finding("x-fine", Severity.OK)]),
    )
    assert report.exit_code == 3
    assert {check.id: report.severity_of(check.id).value for check in report.checks} == {
        "x-breaks": "unknown",
        "x-hangs": "unknown",
        "x-fine": "ok",
    }
    texts = " ".join(f.text for f in report.findings)
    assert "KeyError" in texts and "no answer in 0.2 s" in texts


def test_one_missing_fact_is_told_once(healthy: Take, healthy_templates: Templates) -> None:
    lost = Unknown("reading temperatures gave no answer in 4 s")
    facts = dataclasses.replace(healthy_templates(AGX).facts, thermal=lost)
    report = healthy().examine(facts)
    unknown = [f for f in report.findings if f.severity is Severity.UNKNOWN]
    assert len(unknown) == 1
    assert unknown[0].text == f"2 checks could not be made: {lost.reason}."
    assert unknown[0].evidence[0].value == "heat-throttle, heat-margin"
    assert report.severity_of("heat-margin") is Severity.UNKNOWN
    assert report.exit_code == 3


@pytest.mark.parametrize("subject", [f.name for f in dataclasses.fields(Facts)][:-1])
def test_no_fact_is_taken_for_granted(
    subject: str, healthy: Take, healthy_templates: Templates
) -> None:
    """Whatever cannot be read: no traceback, and never a false alarm."""
    lost: dict[str, Any] = {subject: Unknown("the cat ate it")}
    facts = dataclasses.replace(healthy_templates(AGX).facts, **lost)
    report = healthy().examine(facts)
    assert [f.text for f in report.findings if "failed with" in f.text] == []
    expected = {"daemon": {"daemon-answers"}}.get(subject, set())
    assert {f.check for f in report.bad} == expected


def hang(box: HealthyBox, pattern: str) -> str:
    """Attributes whose reading never ends, as of a sensor on a dead bus."""
    paths = box.host.glob(pattern)
    for path in paths:
        box.path(path).unlink()
        os.mkfifo(box.path(path))
    return paths[0]


def test_a_hung_sysfs_file_becomes_unknown(healthy: Take) -> None:
    """Through the whole look: what hangs is named, and what may free it."""
    box = healthy()
    path = hang(box, "/sys/class/hwmon/hwmon*/oc2_event_cnt")
    report = box.examine()
    (found,) = [f for f in report.findings if f.severity is not Severity.OK]
    assert (found.severity, found.check) == (Severity.UNKNOWN, "supply-events")
    assert f"{path} hangs." in found.text
    assert found.evidence[0].value == "supply-events, supply-alarm"
    assert found.remedy is not None and found.remedy.needs_reboot
    assert found.remedy.commands == (("sudo", "dmesg", "--level=err,warn"),)


def test_a_hung_sensor_does_not_hang_the_load(healthy: Take) -> None:
    """It speaks and is watched all the same; of the sensor nothing is claimed."""
    box = healthy()
    hang(box, "/sys/class/hwmon/hwmon*/in1_input")
    facts = box.facts(("identity", "clocks", "thermal", "rails", "daemon", "history"))
    load = put_under_load(box.host, box.settings, facts, seconds=0.1, limit_s=5.0, every_s=0.02)
    assert isinstance(load, Load) and load.requests > 0
    report = examine(box.host, box.settings, checks=select(["load"]), facts=facts, load=load)
    told = {check.id: report.severity_of(check.id) for check in report.checks}
    assert told["load-heat"] is Severity.OK and told["load-clocks"] is Severity.OK
    assert told["load-supply"] is Severity.UNKNOWN


def test_what_needs_root_says_how_to_look_again(
    healthy: Take, healthy_templates: Templates
) -> None:
    facts = healthy_templates(AGX).facts
    clocks = known(facts.clocks)
    lost = Unknown("reading /sys/kernel/debug/bpmp/debug/clk/emc/mrq_rate_locked needs root")
    emc = dataclasses.replace(clocks.emc, override=lost, min_hz=lost, max_hz=lost, rate_hz=lost)
    clocks = dataclasses.replace(clocks, emc=emc)
    report = healthy().examine(dataclasses.replace(facts, clocks=clocks))
    (found,) = [f for f in report.findings if f.severity is Severity.UNKNOWN]
    assert found.remedy is not None
    assert found.remedy.commands == (("sudo", "ishowtts-ops", "doctor", "clocks-emc"),)


@pytest.mark.parametrize(
    ("changes", "severity", "words"),
    [
        ({"path": None, "pwm": Unknown("no fan")}, Severity.OK, ""),
        ({"pwm": Unknown("pwm1 answers EIO")}, Severity.UNKNOWN, "pwm1 answers EIO"),
        ({"rpm": Unknown("rpm answers EIO")}, Severity.UNKNOWN, "rpm answers EIO"),
        ({"rpm_path": None, "rpm": Unknown("none")}, Severity.OK, "no tachometer to say"),
        ({"pwm": 0, "rpm": 0}, Severity.INFO, "The fan stands still, at 50.2"),
    ],
)
def test_no_fan_is_said_to_turn_that_was_not_seen_to(
    changes: dict[str, Any],
    severity: Severity,
    words: str,
    healthy: Take,
    healthy_templates: Templates,
) -> None:
    facts = healthy_templates(AGX).facts
    fan = dataclasses.replace(known(facts.fan), **changes)
    report = healthy().examine(dataclasses.replace(facts, fan=fan))
    assert report.severity_of("heat-fan") is severity
    assert words in " ".join(f.text for f in report.of("heat-fan"))
    assert not [f for f in report.findings if "The fan turns" in f.text]


def test_a_still_fan_is_not_judged_without_a_temperature(
    healthy: Take, healthy_templates: Templates
) -> None:
    facts = healthy_templates(AGX).facts
    fan = dataclasses.replace(known(facts.fan), pwm=0, rpm=0)
    cold = dataclasses.replace(facts, fan=fan, thermal=Unknown("reading temperatures hangs"))
    assert healthy().examine(cold).severity_of("heat-fan") is Severity.UNKNOWN


def test_looking_changes_nothing(healthy: Take) -> None:
    box = healthy()
    before = snapshot(box.root, ("/",), ())
    report = box.examine()
    preflight(box.host, box.settings)
    assert report.exit_code == 0, [f.text for f in report.findings]
    assert {k: v for k, v in snapshot(box.root, ("/",), ()).items() if before.get(k) != v} == {}


def test_checks_are_chosen_by_name_or_subject() -> None:
    assert [c.id for c in select(["clocks"])] == ["clocks-gpu", "clocks-cpu", "clocks-emc"]
    assert [c.id for c in select(["clocks-gpu", "disk-space"])] == ["clocks-gpu", "disk-space"]
    assert select([]) == ALL_CHECKS
    with pytest.raises(UsageError, match="no check 'clock'"):
        select(["clock"])


def test_the_json_is_whole_and_plain(healthy: Take, healthy_templates: Templates) -> None:
    box = healthy()
    apply_fault(box.root, "clocks-unlocked")
    facts = dataclasses.replace(healthy_templates(AGX).facts, clocks=box.facts(("clocks",)).clocks)
    told = json.loads(json.dumps(box.examine(facts).to_json()))
    assert (told["version"], told["exit_code"]) == (1, 1)
    assert told["box"]["module"] == "agx-orin-64"
    assert (told["box"]["release"], told["box"]["jetpack"]) == ("R36.4", "6.1")
    assert told["box"]["simulated"] is True
    assert told["summary"]["error"] == 3
    assert told["checks"]["clocks-gpu"] == "error"
    assert set(told["checks"]) == {check.id for check in ALL_CHECKS}
    first = told["findings"][0]
    assert (first["check"], first["subject"], first["severity"]) == (
        "clocks-gpu",
        "clocks",
        "error",
    )
    assert first["effect"] == 2.08
    assert first["evidence"][0]["source"].endswith("/min_freq")
    assert first["remedy"]["step"] == "power"
    assert first["remedy"]["commands"] == [["sudo", "ishowtts-ops", "install", "--only", "power"]]


# ---- boxes of other kinds --------------------------------------------------------------------


def test_a_box_without_us_is_told_so_once(tmp_path: Path) -> None:
    build_box(tmp_path / "box", AGX)
    report = examine(Host.at(tmp_path / "box"), Settings())
    errors = {f.check for f in report.errors}
    assert errors == {
        "power-mode",
        "clocks-gpu",
        "clocks-cpu",
        "clocks-emc",
        "engine-python",
        "units-installed",
    }
    assert not [f for f in report.findings if f.severity is Severity.UNKNOWN]


@pytest.mark.parametrize(
    ("board", "factor"),
    [
        ("agx-orin-64", 1300.5 * 8 / (612 * 4)),
        ("orin-nx-16@35.3.1", 918 * 4 / (612 * 2)),
        ("orin-nano-super", 1020 / 918),
        ("agx-thor-t5000", 1575 / 1386),
        ("orin-nx-16-super", None),  # 40 W has the GPU of MAXN_SUPER
    ],
)
def test_what_the_default_mode_costs(tmp_path: Path, board: str, factor: float | None) -> None:
    """GPU rate times units, of the hardware and not only of the modes that have a cap; and the same
    while the right mode waits for a reboot."""
    build_box(tmp_path / "box", board)
    host = Host.at(tmp_path / "box")
    expected = None if factor is None else pytest.approx(factor, rel=0.01)
    look = functools.partial(examine, host, Settings(), checks=select(["power"]))
    (found,) = look().of("power-mode")
    assert (found.severity, found.effect) == (Severity.ERROR, expected)
    assert found.at_most or factor is None
    if lock(host, Settings().power, log=lambda _: None).reboot_needed:
        report = look()
        assert report.of("power-mode")[0].severity is Severity.OK
        (staged,) = report.of("power-caps")
        assert (staged.severity, staged.effect) == (Severity.WARN, expected)
        assert "takes effect with the next reboot; until then it is" in staged.text


@pytest.mark.parametrize(("gone", "step"), [("link", "reboot"), ("file", "apt-get")])
def test_modes_that_are_gone_come_back_as_they_went(tmp_path: Path, gone: str, step: str) -> None:
    """The link is made at boot; what it leads to is a package's."""
    build_box(tmp_path / "box", AGX)
    host = Host.at(tmp_path / "box")
    host.remove(CONF_PATH if gone == "link" else host.readlink(CONF_PATH))
    (found,) = examine(host, Settings(), checks=select(["power-mode"])).findings
    assert found.severity is Severity.ERROR and found.remedy is not None
    assert step in " ".join(found.remedy.commands[0])
    assert found.remedy.needs_reboot == (step == "reboot")
    assert ("leads to" in found.text) == (gone == "file")


def test_another_machine_gets_no_jetson_checks(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    report = examine(Host.at(tmp_path), Settings())
    assert report.of("box-jetson")[0].severity is Severity.ERROR
    assert {check.subject for check in report.checks}.isdisjoint({"clocks", "power", "heat"})


def test_a_policy_that_leaves_the_clocks_alone_is_respected(
    healthy: Take, healthy_templates: Templates
) -> None:
    box = healthy()
    apply_fault(box.root, "clocks-unlocked")
    box.configure("power", mode="leave", lock_clocks=False)
    clocks = box.facts(("clocks",)).clocks
    facts = dataclasses.replace(healthy_templates(AGX).facts, clocks=clocks)
    report = box.examine(facts)
    assert not {f.check for f in report.bad} & {"clocks-gpu", "clocks-cpu", "clocks-emc"}
    assert report.severity_of("clocks-gpu") is Severity.INFO
    assert report.severity_of("power-mode") is Severity.INFO


def test_a_cpu_engine_may_lack_cuda(healthy: Take, healthy_templates: Templates) -> None:
    box = healthy()
    box.package("torch", "2.8.0+cpu")
    box.package("torchaudio", "2.8.0+cpu")
    env = box.facts(("python_env",)).python_env
    box.configure("f5", device="cpu")
    report = box.examine(dataclasses.replace(healthy_templates(AGX).facts, python_env=env))
    assert report.severity_of("engine-torch") is Severity.INFO
    assert report.bad == ()


@pytest.mark.parametrize(
    ("launch", "severity", "words"),
    [
        (KernelLaunch(available=True, device="Orin", arch_list=("sm_87",), error=None), "ok", ""),
        (
            KernelLaunch(available=False, device=None, arch_list=("sm_87",), error=None),
            "error",
            "finds no GPU",
        ),
        (
            KernelLaunch(available=True, device="Orin", arch_list=("sm_90",), error="no kernel"),
            "error",
            "other GPUs",
        ),
        (
            KernelLaunch(available=True, device="Orin", arch_list=("sm_87",), error="error 12"),
            "error",
            "error 12",
        ),
    ],
)
def test_the_thorough_look_judges_the_kernel(
    launch: KernelLaunch,
    severity: str,
    words: str,
    healthy: Take,
    healthy_templates: Templates,
) -> None:
    facts = healthy_templates(AGX).facts
    assert isinstance(facts.python_env, PythonEnv)
    env = dataclasses.replace(facts.python_env, kernel=launch)
    box = healthy()
    report = examine(
        box.host,
        box.settings,
        checks=select(["engine-gpu"]),
        thorough=True,
        facts=dataclasses.replace(facts, python_env=env),
    )
    assert report.severity_of("engine-gpu").value == severity
    assert words in report.findings[0].text


@pytest.mark.parametrize(
    ("free", "severity"),
    [(100 << 20, Severity.ERROR), (1 * GIB, Severity.WARN), (20 * GIB, Severity.OK)],
)
def test_full_disks(
    free: int, severity: Severity, healthy: Take, healthy_templates: Templates
) -> None:
    disk = Disk((Space(("/var/lib/ishowtts-ops",), 64 * GIB, free),))
    facts = dataclasses.replace(healthy_templates(AGX).facts, disk=disk)
    report = healthy().examine(facts)
    assert report.severity_of("disk-space") is severity
    assert {f.check for f in report.bad} <= {"disk-space"}


def test_the_emc_may_be_unreadable_for_an_ordinary_user(
    healthy: Take, healthy_templates: Templates
) -> None:
    box = healthy()
    facts = healthy_templates(AGX).facts
    clocks = known(facts.clocks)
    why = Unknown("reading /sys/kernel/debug/bpmp/debug/clk/emc/rate needs root")
    emc = dataclasses.replace(clocks.emc, rate_hz=why, min_hz=why, max_hz=why, override=why)
    report = box.examine(dataclasses.replace(facts, clocks=dataclasses.replace(clocks, emc=emc)))
    assert report.bad == ()
    assert "needs root" in report.of("clocks-emc")[0].text
    assert report.exit_code == 3


# ---- preflight -------------------------------------------------------------------------------


def test_a_healthy_box_may_be_installed_again(healthy: Take) -> None:
    box = healthy()
    report = preflight(box.host, box.settings)
    assert report.errors == ()
    assert all(check.blocks_install for check in report.checks)


def test_a_fresh_jetson_may_be_installed(tmp_path: Path) -> None:
    build_box(tmp_path / "box", "orin-nano-super")
    assert preflight(Host.at(tmp_path / "box"), Settings()).errors == ()


def test_another_machine_may_not_and_is_offered_the_demo(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    errors = preflight(Host.at(tmp_path), Settings()).errors
    assert errors[0].check == "box-jetson"
    assert errors[0].remedy is not None
    assert ("ishowtts-ops", "demo") in errors[0].remedy.commands


def test_of_a_card_only_the_files_are_judged(tmp_path: Path) -> None:
    """Its clocks are not loose, its fan is not off and its daemon is not down: nothing runs."""
    build_box(tmp_path / "card", "orin-nano-super")
    host = Host.at(tmp_path / "card")
    host.remove(SIM_MARKER)
    for folder in ("/sys", "/proc", "/run"):
        host.rmtree(folder)
    host = Host.at(tmp_path / "card")
    report = examine(host, Settings())
    found = {f.check: f.severity for f in report.findings if f.severity.rank > Severity.INFO.rank}
    assert found == {
        "box-systemd": Severity.UNKNOWN,
        "power-mode": Severity.ERROR,
        "units-installed": Severity.ERROR,
    }
    host.write(STATUS_PATH, b"pmode:0002")
    report = examine(host, Settings(), checks=select(["box", "power", "clocks", "daemon"]))
    assert report.exit_code == 3, "what is not known is not fine"


def test_a_lock_alone_is_no_install(tmp_path: Path) -> None:
    """`power lock` records what was there before; nothing is missing for that."""
    build_box(tmp_path / "box", "orin-nano-super")
    host = Host.at(tmp_path / "box")
    record_before(host, Ledger.open(host))
    assert lock(host, Settings().power, log=lambda _: None).ok
    assert host.exists(LEDGER_PATH)
    assert {f.check for f in examine(host, Settings()).errors} == {
        "engine-python",
        "units-installed",
    }


def test_edits_that_would_be_lost_stop_install_before_it_begins(healthy: Take) -> None:
    box = healthy()
    submodule(box, "updated")
    submodule(box, "edited")
    errors = preflight(box.host, box.settings).errors
    assert [f.check for f in errors] == ["patch-edits"]
    assert UTILS in errors[0].text
    assert preflight(box.host, box.settings, changes_follow=False).errors == ()


def test_a_full_disk_stops_install(healthy: Take, healthy_templates: Templates) -> None:
    space = Space(("/var/lib/ishowtts-ops", "/var/cache/ishowtts-ops"), 64 * GIB, 300 << 20)
    facts = dataclasses.replace(healthy_templates(AGX).facts, disk=Disk((space,)))
    box = healthy()
    exam = Examination(box.host, box.settings, facts, changes_follow=True)
    check = next(check for check in ALL_CHECKS if check.id == "disk-install")
    assert [f.severity for f in check.run(exam)] == [Severity.ERROR]
    assert check.run(dataclasses.replace(exam, changes_follow=False)) == []


def test_systemd_must_run_the_box(healthy: Take, healthy_templates: Templates) -> None:
    lost = NoSystemd("System has not been booted with systemd as init system")
    systemd = Systemd(249, "multi-user.target", None, lost, lost)
    facts = dataclasses.replace(healthy_templates(AGX).facts, systemd=systemd)
    report = healthy().examine(facts)
    assert {f.check for f in report.findings if f.severity.rank > Severity.INFO.rank} == {
        "box-systemd"
    }
    assert report.severity_of("units-guard") is Severity.UNKNOWN
    box = healthy()
    alone = examine(box.host, box.settings, checks=select(["units-guard"]), facts=facts)
    assert alone.exit_code == 3


# ---- fix -------------------------------------------------------------------------------------


def test_what_shows_under_load_only_is_looked_for_again(healthy: Take) -> None:
    """A fix that looks without a load would call fine what it cannot see."""
    box = healthy()
    apply_fault(box.root, "clocks-unlocked")
    loads: list[int] = []

    def fails() -> None:
        loads.append(1)
        raise ConnectionError("the engine is gone in the middle of a word")

    box.answers.on_speech = fails
    report = examine(box.host, box.settings, under_load=True)
    assert report.severity_of("load-speed") is Severity.UNKNOWN and len(loads) == 1
    result = fix(report, lambda *_: True, box.run_step)
    assert [(attempt.step, attempt.outcome) for attempt in result.attempts] == [("power", "mended")]
    assert len(loads) == 2, "once more, at the end"
    assert result.left.severity_of("load-speed") is Severity.UNKNOWN
    assert result.exit_code == 3
    # Where nothing was done, nothing is loaded for it.
    fix(report, lambda *_: False, box.run_step)
    assert len(loads) == 2


def test_fix_asks_in_installs_order_and_reports_what_is_left(
    healthy: Take, healthy_templates: Templates
) -> None:
    box = healthy()
    facts = healthy_templates(AGX).facts
    complaint = {
        step: Finding(f"x-{step}", Severity.ERROR, "It is off.", (), mend(step, "Mend it."))
        for step in ("units", "power", "patch")
    }
    checks = [Check(f.check, "x", step, always(f)) for step, f in complaint.items()]
    asked: list[str] = []

    def ask(step: str, findings: Sequence[Finding]) -> bool:
        assert [f.check for f in findings] == [f"x-{step}"]
        asked.append(step)
        return step != "power"

    def run_step(step: str) -> None:
        if step == "patch":
            raise OpsError("The tree has edits.", "Put them away.")

    result = fix(report_of(box, facts, *checks), ask, run_step)
    assert asked == ["patch", "power", "units"] == sorted(asked, key=STEPS.index)
    assert [(a.step, a.outcome, a.detail) for a in result.attempts] == [
        ("patch", "failed", "The tree has edits."),
        ("power", "declined", ""),
        ("units", "remains", "It is off."),
    ]
    assert result.exit_code == 1
    told = json.loads(json.dumps(result.to_json()))
    assert [a["outcome"] for a in told["attempts"]] == ["failed", "declined", "remains"]
    assert told["left"]["summary"]["error"] == 3


def test_nothing_to_fix_changes_nothing(healthy: Take, healthy_templates: Templates) -> None:
    report = healthy().examine(healthy_templates(AGX).facts)

    def never(*_: object) -> NoReturn:
        raise AssertionError("asked for nothing")

    result = fix(report, never, never)
    assert result.attempts == () and result.left is report


def test_a_daemon_that_does_not_run_is_started_for_real(tmp_path: Path) -> None:
    """Everything real but the hardware: what install made, and a daemon of the tone engine."""
    box = FolderBox(tmp_path / "box", board="orin-nano-super")
    settings = Settings.model_validate(box.settings)

    def run_step(step: str) -> None:
        text = box.host.read_text(CONFIG_PATH)
        steps = install.all_steps(settings, Ledger.open(box.host), text, replace_config=False)
        chosen = install.choose(steps, [step])
        install.apply(box.host, chosen, log=lambda _: None, on_step=lambda *_: None)

    try:
        for step in ("voices", "power", "units"):
            run_step(step)
        box.host.run(["systemctl", "start", CLOCKS], timeout=60).check()
        before = box.tree()
        report = examine(box.host, settings)
        assert [f.check for f in report.bad] == ["daemon-running"]
        assert differences(before, box.tree()) == []
        result = fix(report, lambda *_: True, run_step)
        assert [(a.step, a.outcome) for a in result.attempts] == [("daemon", "mended")]
        assert result.left.bad == ()
        assert result.exit_code == 0
    finally:
        box.stop()


@pytest.mark.parametrize(
    ("sdpa", "severity"),
    [
        ({"flash": None, "efficient": None, "math": None}, Severity.OK),
        ({"flash": "not built in", "efficient": None, "math": None}, Severity.OK),
        ({"flash": "not built in", "efficient": "no kernel", "math": None}, Severity.WARN),
        ({}, Severity.OK),
    ],
)
def test_the_thorough_look_judges_attention(
    sdpa: dict[str, str | None],
    severity: Severity,
    healthy: Take,
    healthy_templates: Templates,
) -> None:
    facts = healthy_templates(AGX).facts
    assert isinstance(facts.python_env, PythonEnv)
    launch = KernelLaunch(
        available=True, device="Orin", arch_list=("sm_87",), error=None, sdpa=sdpa
    )
    env = dataclasses.replace(facts.python_env, kernel=launch)
    box = healthy()
    report = examine(
        box.host,
        box.settings,
        checks=select(["engine-attention"]),
        thorough=True,
        facts=dataclasses.replace(facts, python_env=env),
    )
    assert report.severity_of("engine-attention") is severity
    assert all(f.evidence for f in report.findings)


def test_a_load_that_nobody_can_make_is_unknown(
    healthy: Take, healthy_templates: Templates
) -> None:
    """The daemon is gone and the engine has no torch: said once, with the reason."""
    box = healthy()
    gone = NotRunning("nobody listens")
    facts = dataclasses.replace(healthy_templates(AGX).facts, daemon=gone)
    load = put_under_load(box.host.read_only(), box.settings, facts, seconds=0.1, limit_s=5.0)
    assert isinstance(load, Unknown) and "the GPU could not be kept busy" in load.reason
    report = examine(box.host, box.settings, checks=select(["load"]), facts=facts, load=load)
    assert [f.severity for f in report.findings] == [Severity.UNKNOWN]
    assert report.exit_code == 3


def test_a_daemon_that_serves_somebody_is_only_watched(
    healthy: Take, healthy_templates: Templates
) -> None:
    box = healthy()
    spoken: list[int] = []
    box.answers.on_speech = lambda: spoken.append(1)
    health = known(healthy_templates(AGX).facts.daemon)
    facts = dataclasses.replace(
        healthy_templates(AGX).facts, daemon=dataclasses.replace(health, queue_depth=2)
    )
    load = put_under_load(
        box.host.read_only(), box.settings, facts, seconds=0.1, limit_s=5.0, every_s=0.02
    )
    assert not isinstance(load, Unknown) and load.kind == "live"
    assert spoken == []
