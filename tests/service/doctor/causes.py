"""What makes a box slow or silent, as data: how to break a healthy box, and what doctor must say.

To add a cause, add a row. `fault` names a fault of the simulated Jetson, `breaks` is a function of
this file; `says` maps every check that must complain to its severity, and no other check may.
`asks` names the subjects that are asked of programs and must be asked anew; what is read from files
always is.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import soundfile

from ishowtts_ops.config import CONFIG_PATH, MANIFEST_PATH
from ishowtts_ops.doctor.finding import Severity
from ishowtts_ops.provision.units import CLOCKS, DAEMON, GUARD, GUARD_TIMER, REGRESS_TIMER, UNIT_DIR
from ishowtts_ops.sim.checkout import VOICES
from ishowtts_ops.sim.faults import apply_fault
from ishowtts_ops.sim.tools.unitstate import LOGS
from ishowtts_ops.steps import LEDGER_PATH
from tests.service.doctor.healthy import SOURCE, HealthyBox
from tests.support.f5 import UTILS, git

ERROR, WARN, INFO, UNKNOWN = Severity.ERROR, Severity.WARN, Severity.INFO, Severity.UNKNOWN
AGX = "agx-orin-64"
NANO = "orin-nano-super"
CLOCK_CHECKS = {"clocks-gpu": ERROR, "clocks-cpu": ERROR, "clocks-emc": ERROR}

Breaks = Callable[[HealthyBox], None]


@dataclass(frozen=True)
class Cause:
    """One row.

    Attributes:
        says: check → severity of what it must say; INFO findings need to be named only where the
            cause shows in nothing else.
        step: the install step that the worst finding must name; None for "a person has to".
        words: what some finding's text or evidence must contain.
        needs: a program of this machine without which the row is skipped.
        mends: running the step with doctor --fix must leave the box healthy.
        under_load: what happens to the box while it speaks; doctor looks with --under-load.
    """

    name: str
    says: Mapping[str, Severity]
    fault: str = ""
    breaks: Breaks | None = None
    step: str | None = None
    board: str = AGX
    asks: tuple[str, ...] = ()
    words: str = ""
    mends: bool = False
    faults: tuple[str, ...] = ()
    needs: str = ""
    under_load: Breaks | None = None


# ---- ways to break a box ---------------------------------------------------------------------


def edit(path: str, old: str, new: str) -> Breaks:
    def breaks(box: HealthyBox) -> None:
        text = box.host.read_text(path)
        assert old in text, f"{path} does not hold {old!r}"
        box.host.write(path, text.replace(old, new))

    return breaks


def write(path: str, text: str) -> Breaks:
    return lambda box: box.host.write(path, text)


def remove(*paths: str) -> Breaks:
    def breaks(box: HealthyBox) -> None:
        for path in paths:
            box.host.remove(path)

    return breaks


def sysfs(path: str, value: str) -> Breaks:
    def breaks(box: HealthyBox) -> None:
        found = box.host.glob(path)
        assert found, f"the box has no {path}"
        for each in found:
            box.host.write_sysfs(each, value)

    return breaks


def unit(name: str, **state: object) -> Breaks:
    return lambda box: box.unit_state(name, **state)


def daemon_unit(journal: str = "", **state: object) -> Breaks:
    def breaks(box: HealthyBox) -> None:
        box.unit_state(DAEMON, **state)
        log = box.root / f"{LOGS}/{DAEMON}.log".lstrip("/")
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as file:
            file.write(journal)

    return breaks


def daemon_says(**changes: object) -> Breaks:
    return lambda box: box.answers.tell(**changes)


def daemon_is(**values: object) -> Breaks:
    return lambda box: vars(box.answers).update(values)


def package(name: str, version: str, cuda: str | None = None) -> Breaks:
    return lambda box: box.package(name, version, cuda=cuda)


def configured(section: str, **keys: object) -> Breaks:
    return lambda box: box.configure(section, **keys)


def fault(name: str) -> Breaks:
    return lambda box: apply_fault(box.root, name)


def recording(seconds: float, level: float = 0.3, *, sound: float = 1.0) -> Breaks:
    """The voice `guest` is recorded anew: noise as loud as `level`, for a share of its time."""

    def breaks(box: HealthyBox) -> None:
        rng = np.random.default_rng(7)
        samples = rng.uniform(-level, level, round(seconds * 24000)).astype(np.float32)
        samples[round(len(samples) * sound) :] = 0.0
        path = box.host.path("/opt/ishowtts/data/voices/guest.wav")
        soundfile.write(path, np.clip(samples, -1, 1), 24000)

    return breaks


def guest_says(text: str) -> Breaks:
    """The transcript of `guest` is another one, and install has told the daemon."""

    old = next(voice.text for voice in VOICES if voice.id == "guest")
    return told_anew(edit("/opt/ishowtts/config/ishowtts.toml", old, text))


def measured(*runs: tuple[float, float]) -> Breaks:
    """The history is (RTF, days ago) of these, the first the baseline."""

    def breaks(box: HealthyBox) -> None:
        box.host.remove("/var/lib/ishowtts-ops/history.db")
        for number, (rtf, days) in enumerate(runs):
            box.measured(rtf, days, baseline=number == 0)

    return breaks


def cycle(box: HealthyBox) -> None:
    """What systemd says when two units wait for each other."""
    log = box.root / f"{LOGS}/init.log".lstrip("/")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(_CYCLE)


def units_not_reloaded(box: HealthyBox) -> None:
    """A unit file is written without telling systemd; its text is as install wants it."""
    path = f"{UNIT_DIR}/{DAEMON}"
    box.host.run(["systemctl", "daemon-reload"]).check()
    box.host.write(f"{path}.d/mine.conf", "[Service]\nNice=5\n")


def masked(box: HealthyBox) -> None:
    """`systemctl mask` of a unit whose file is ours takes its file away."""
    box.host.remove(f"{UNIT_DIR}/{GUARD_TIMER}")
    box.host.symlink("/dev/null", f"{UNIT_DIR}/{GUARD_TIMER}")


def both(*ways: Breaks) -> Breaks:
    def breaks(box: HealthyBox) -> None:
        for way in ways:
            way(box)

    return breaks


def noted(way: Breaks) -> Breaks:
    """With the daemon restarted afterwards, so that it runs what is there."""

    def breaks(box: HealthyBox) -> None:
        way(box)
        box.note_started()

    return breaks


def told_anew(way: Breaks) -> Breaks:
    """With the manifest written anew and the daemon restarted afterwards."""

    def breaks(box: HealthyBox) -> None:
        way(box)
        box.run_step("voices")
        box.note_started()

    return breaks


def source_updated(box: HealthyBox) -> None:
    """What `git submodule update --force` does to the series: it is gone, and nobody is told."""
    git(box.host.path(SOURCE), "checkout", "-q", "--force", "HEAD")
    shutil.rmtree(box.host.path(f"{SOURCE}/src/f5_tts/fast"))


def source_hook_lost(box: HealthyBox) -> None:
    git(box.host.path(SOURCE), "checkout", "-q", "--force", "HEAD", "--", UTILS)


def source_edited(box: HealthyBox) -> None:
    box.host.path(f"{SOURCE}/{UTILS}").open("a").write("\n# a quick try\n")


def source_conflict(box: HealthyBox) -> None:
    """Upstream's own file is another one in the commit that is checked out."""
    source = box.host.path(SOURCE)
    git(source, "checkout", "-q", "--force", "HEAD")
    shutil.rmtree(source / "src/f5_tts/fast")
    (source / UTILS).write_text("def infer_process():\n    raise NotImplementedError\n")
    git(source, "commit", "-q", "-a", "-m", "rewritten upstream")


def source_gone(box: HealthyBox) -> None:
    shutil.rmtree(box.host.path(SOURCE))
    box.host.path(SOURCE).mkdir()


def voice_gone(box: HealthyBox) -> None:
    box.host.remove("/opt/ishowtts/data/voices/guest.wav")


def unknown_key(box: HealthyBox) -> None:
    """A key that systemd does not know, judged by this machine's systemd-analyze."""
    script = (
        '#!/bin/sh\nfor a; do shift; case "$a" in /etc/*) a="$ISHOWTTS_BOX_ROOT$a";; esac;'
        f' set -- "$@" "$a"; done\nexec {shutil.which("systemd-analyze")} "$@"\n'
    )
    box.host.write("/usr/bin/systemd-analyze", script, mode=0o755)
    edit(f"{UNIT_DIR}/{GUARD}", "Nice=10", "Nice=10\nRestartSpets=4")(box)


def jtop(box: HealthyBox) -> None:
    """jtop is there as a service, and told to run jetson_clocks at boot."""
    box.host.write(
        f"{UNIT_DIR}/jtop.service",
        "[Unit]\nDescription=jtop service\n\n[Service]\nExecStart=/usr/local/bin/jtop --force\n\n"
        "[Install]\nWantedBy=multi-user.target\n",
    )
    wants = f"{UNIT_DIR}/multi-user.target.wants/jtop.service"
    box.host.symlink(f"{UNIT_DIR}/jtop.service", wants)


_KILLED = """\
2026-11-22T10:00:00.000001 systemd[1]: ishowtts-tts.service: Watchdog timeout (limit 30s)!
2026-11-22T10:00:00.100001 systemd[1]: ishowtts-tts.service: Killing process 812 with SIGABRT.
2026-11-22T10:00:03.000001 systemd[1]: ishowtts-tts.service: Watchdog timeout (limit 30s)!
"""
_STACKS = (
    _KILLED
    + """\
Timeout (0:00:21)!
Thread 0x0000ffff8e1c1120 (most recent call first):
  File "/opt/ishowtts-ops/venv/lib/python3.10/site-packages/vocos/heads.py", line 81 in forward
  File "/opt/f5/src/f5_tts/infer/utils_infer.py", line 412 in infer_process
  File "/opt/x/ishowtts_ops/daemon/worker.py", line 160 in _live
  File "/usr/lib/python3.10/threading.py", line 953 in run

Thread 0x0000ffffa2fff0c0 (most recent call first):
  File "/usr/lib/python3.10/selectors.py", line 469 in select
"""
)
_CYCLE = """\
2026-11-22T10:00:00.000001 systemd[1]: multi-user.target: Found ordering cycle on a.service/start
2026-11-22T10:00:00.000002 systemd[1]: multi-user.target: Found dependency on a.service/start
2026-11-22T10:00:00.000003 systemd[1]: multi-user.target: Job a.service/start deleted to break \
ordering cycle starting with multi-user.target/start
"""
_REFUSED = "The checkpoint /var/lib/ishowtts-ops/weights/model.safetensors is damaged.\n"
_BUSY = """\
ishowtts_requests_total{engine="f5",outcome="ok"} 90.0
ishowtts_requests_total{engine="f5",outcome="queue_full"} 25.0
"""
_FAILING = """\
ishowtts_requests_total{engine="f5",outcome="ok"} 90.0
ishowtts_requests_total{engine="f5",outcome="failed"} 4.0
"""

# ---- the rows --------------------------------------------------------------------------------

POWER = [
    Cause("all clocks loose", CLOCK_CHECKS, "clocks-unlocked", step="power", mends=True),
    Cause(
        "only the CPU was locked, the GPU was not up",
        {"clocks-gpu": ERROR, "clocks-emc": ERROR},
        "clocks-cpu-only",
        step="power",
    ),
    Cause(
        "nvpmodel was run again",
        {"clocks-gpu": ERROR, "clocks-cpu": ERROR},
        "clocks-rerun",
        step="power",
    ),
    Cause("memory clock loose", {"clocks-emc": ERROR}, "emc-unlocked", step="power"),
    Cause(
        "GPU held below its mode",
        {"power-caps": ERROR},
        "gpu-capped",
        step="power",
        words="max_freq",
    ),
    Cause("a core is off", {"power-caps": ERROR}, "core-offline", step="power", words="online"),
    Cause("the GPU is not there", {"clocks-gpu": ERROR}, "gpu-missing", words="devfreq"),
    Cause(
        "default mode instead of the fastest",
        {"power-mode": ERROR, "clocks-gpu": ERROR, "clocks-cpu": ERROR},
        "mode-default",
        board=NANO,
        step="power",
        words="MAXN_SUPER",
    ),
    Cause(
        "no mode was ever set",
        {"power-mode": ERROR},
        "mode-missing",
        step="power",
        words="/var/lib/nvpmodel/status",
    ),
    Cause("status file damaged", {"power-mode": ERROR}, "mode-corrupt", step="power", mends=True),
    Cause("status names no mode", {"power-mode": ERROR}, "mode-unknown", step="power"),
    Cause("nvpmodel's file is gone", {"power-mode": ERROR}, "conf-missing", words="nvpmodel.conf"),
    Cause(
        "nvpmodel's file is cut off",
        {"power-conf": WARN},
        breaks=edit("/etc/nvpmodel.conf", "< PM_CONFIG", "# PM_CONFIG"),
        words="PM_CONFIG",
    ),
    Cause(
        "super mode, firmware without super rates",
        {"power-firmware": ERROR},
        "super-plain-caps",
        board=NANO,
    ),
    Cause(
        "the policy names a mode that is not there",
        {"power-mode": ERROR},
        breaks=configured("power", mode="MODE_999W"),
        words="MODE_999W",
    ),
    Cause(
        "a mode is staged for the next boot",
        {"power-caps": WARN},
        breaks=sysfs("/sys/devices/platform/gpu.0/tpc_pg_mask", "240\n"),
        words="reboot",
    ),
]

# Not every oddity is a cause.
POWER += [Cause("the file has a mode more", {}, "mode-added", board=NANO)]

HEAT = [
    Cause("too hot", {"heat-throttle": ERROR}, "thermal-throttle", words="gpu-throttle-alert"),
    Cause("nearly too hot", {"heat-margin": WARN}, "hot", words="92.0 °C"),
    Cause("the fan is stuck", {"heat-fan": ERROR}, "fan-stuck", words="pwm 200"),
    Cause(
        "the fan is off at 92 °C",
        {"heat-fan": ERROR, "heat-margin": WARN},
        faults=("hot", "fan-stopped"),
    ),
    Cause("average over-current", {"supply-events": WARN}, "over-current", words="oc2_event_cnt"),
    Cause("under-voltage", {"supply-events": WARN}, "under-voltage", words="under-voltage"),
    Cause("short current peaks", {"supply-events": INFO}, "over-current-mild"),
    Cause("a rail above its limit", {"supply-alarm": ERROR}, "rail-alarm", words="crit_alarm"),
    Cause(
        "the CPU really runs at half its rate",
        {"supply-measured": ERROR},
        "oc-throttled-cpu",
        words="cpuinfo_cur_freq",
    ),
    Cause("the hardware watchdog reset the box", {"supply-reset": WARN}, "watchdog-reset"),
]

RIVALS = [
    Cause(
        "jtop sets clocks at boot",
        {"rivals-active": WARN},
        "rival-jtop",
        breaks=jtop,
        asks=("rivals",),
        words="jtop",
    ),
    Cause("tuned", {"rivals-active": WARN}, "rival-tuned", asks=("rivals",), words="tuned"),
    Cause("auto-cpufreq", {"rivals-active": WARN}, "rival-auto-cpufreq", asks=("rivals",)),
    Cause("power-profiles-daemon", {"rivals-active": WARN}, "rival-ppd", asks=("rivals",)),
    Cause(
        "a hand-made unit runs jetson_clocks",
        {"rivals-active": WARN},
        "rival-unit",
        asks=("rivals",),
        words="jetson_clocks.service",
    ),
    Cause(
        "rc.local runs jetson_clocks",
        {"rivals-active": WARN},
        breaks=write("/etc/rc.local", "#!/bin/sh\nsleep 60; jetson_clocks\n"),
        asks=("rivals",),
        words="/etc/rc.local",
    ),
    Cause(
        "jtop's settings cannot be read",
        {"rivals-active": UNKNOWN},
        breaks=write("/usr/local/jtop/config.json", "{"),
        asks=("rivals",),
        words="damaged",
    ),
]

MEMORY = [
    Cause("memory is nearly gone", {"memory-headroom": WARN}, "low-memory", board=AGX),
    Cause("half of the swap in use", {"memory-swap": WARN}, "swap-heavy", words="zram"),
    Cause("processes were killed", {"memory-oom": WARN}, "oom-kills", words="oom_kill"),
    Cause(
        "somebody else holds GPU memory",
        {"memory-gpu-others": WARN},
        "gpu-process",
        asks=("gpu",),
        words="vlm-server",
    ),
    Cause(
        "a desktop",
        {"box-desktop": WARN},
        "desktop",
        asks=("gpu", "systemd"),
        words="gnome-shell",
    ),
    Cause("the release with the CUDA limit", {"memory-cuda-limit": WARN}, "release-36.4.7"),
]

BOX = [
    Cause("a release nobody knows", {"box-release": WARN}, "release-unknown", words="R47.1"),
    Cause("no release to be read", {"box-release": WARN}, "release-garbage"),
    Cause("a module nobody knows", {"box-module": WARN}, "module-unknown", words="acme"),
    Cause("another module's name", {"box-module": INFO}, "model-wrong", words="label"),
    Cause(
        "less memory than the module has",
        {"box-module": WARN},
        breaks=edit("/proc/meminfo", "MemTotal:       64", "MemTotal:       32"),
        words="memory",
    ),
]

ENGINE = [
    Cause(
        "the interpreter is gone",
        {"engine-python": ERROR},
        breaks=remove("/opt/engine/bin/python"),
        asks=("python_env",),
        words="/opt/engine/bin/python",
    ),
    Cause(
        "torch is missing",
        {"engine-packages": ERROR},
        breaks=lambda box: box.no_package("torch"),
        asks=("python_env",),
        step="engine",
        words="torch",
    ),
    Cause(
        "a package is missing",
        {"engine-packages": ERROR},
        breaks=lambda box: box.no_package("x_transformers"),
        asks=("python_env",),
        step="engine",
        words="x_transformers",
    ),
    Cause(
        "torch without CUDA",
        {"engine-torch": ERROR},
        breaks=both(package("torch", "2.8.0+cpu"), package("torchaudio", "2.8.0+cpu")),
        asks=("python_env",),
        step="engine",
        words="torch.version.cuda = None",
    ),
    Cause(
        "torchaudio of another release",
        {"engine-torchaudio": ERROR},
        breaks=package("torchaudio", "2.7.1"),
        asks=("python_env",),
        words="2.7.1",
    ),
    Cause(
        "torchaudio of another build",
        {"engine-torchaudio": ERROR},
        breaks=both(package("torch", "2.8.0+cu126", "12.6"), package("torchaudio", "2.8.0+cpu")),
        asks=("python_env",),
    ),
    Cause(
        "numpy 2 beside JetPack 6's torch",
        {"engine-numpy": ERROR},
        breaks=package("numpy", "2.2.1"),
        asks=("python_env",),
        words="2.2.1",
    ),
]

PATCH = [
    Cause(
        "the submodule was updated and the series lost",
        {"patch-state": ERROR},
        breaks=source_updated,
        step="patch",
        words="is lost",
        mends=True,
    ),
    Cause(
        "one hook is lost",
        {"patch-state": ERROR},
        breaks=source_hook_lost,
        step="patch",
        words="partial",
    ),
    Cause("a patched file was edited", {"patch-state": ERROR}, breaks=source_edited, words=UTILS),
    Cause(
        "upstream does not fit",
        {"patch-state": ERROR, "config-manifest": WARN},
        breaks=source_conflict,
    ),
    Cause(
        "the sources are gone",
        {"patch-source": ERROR},
        breaks=source_gone,
        step="source",
        words=SOURCE,
    ),
]

CONFIG = [
    Cause(
        "the configuration is gone",
        {"config-file": WARN},
        breaks=noted(remove(CONFIG_PATH)),
        step="config",
        words=CONFIG_PATH,
    ),
    Cause("NFE without a schedule", {"config-nfe": WARN}, breaks=configured("f5", nfe=8)),
    Cause("NFE of 32", {"config-nfe": WARN}, breaks=configured("f5", nfe=32), words="4.6 times"),
    Cause(
        "NFE of 16 in iShowTTS",
        {"config-ishowtts-nfe": WARN},
        breaks=told_anew(
            edit(
                "/opt/ishowtts/config/ishowtts.toml",
                "default_nfe_step = 7",
                "default_nfe_step = 16",
            )
        ),
        words="ishowtts.toml",
    ),
    Cause(
        "iShowTTS's file is no TOML",
        {"config-ishowtts": WARN},
        breaks=edit("/opt/ishowtts/config/ishowtts.toml", "[f5]", "[f5"),
        words="TOML",
    ),
    Cause(
        "no manifest",
        {"config-manifest": ERROR},
        breaks=noted(remove(MANIFEST_PATH)),
        step="voices",
    ),
    Cause(
        "manifest damaged",
        {"config-manifest": ERROR},
        breaks=noted(write(MANIFEST_PATH, '{"version": 1, "nfe": "many"}')),
        step="voices",
        mends=True,
    ),
    Cause(
        "a voice's recording is gone",
        {"config-manifest": ERROR, "config-ishowtts": WARN},
        breaks=voice_gone,
        words="guest.wav",
    ),
    Cause(
        "the record of install is damaged",
        {"config-ledger": ERROR},
        breaks=write(LEDGER_PATH, "{"),
        words=LEDGER_PATH,
    ),
    Cause(
        "the record of install is gone",
        {"config-ledger": WARN},
        breaks=remove(LEDGER_PATH),
        words=LEDGER_PATH,
    ),
]

UNITS = [
    Cause(
        "a unit is gone",
        {"units-installed": ERROR},
        breaks=remove(f"{UNIT_DIR}/{GUARD_TIMER}"),
        step="units",
        words=GUARD_TIMER,
    ),
    Cause(
        "a unit was edited",
        {"units-drift": WARN},
        breaks=noted(edit(f"{UNIT_DIR}/{DAEMON}", "WatchdogSec=30", "WatchdogSec=0")),
        step="units",
        words="WatchdogSec=0",
        mends=True,
    ),
    Cause(
        "systemd does not know a key",
        {"units-drift": WARN, "units-verify": WARN},
        breaks=unknown_key,
        step="units",
        words="RestartSpets",
        needs="systemd-analyze",
    ),
    Cause(
        "a unit was disabled",
        {"units-enabled": ERROR},
        breaks=remove(f"{UNIT_DIR}/multi-user.target.wants/{DAEMON}"),
        step="units",
        words="next boot",
    ),
    Cause(
        "the lock unit failed",
        {"units-clocks": ERROR},
        breaks=unit(CLOCKS, active="failed", sub="failed", result="exit-code"),
        asks=("systemd",),
        step="power",
        words=CLOCKS,
    ),
    Cause(
        "the guard timer is stopped",
        {"units-guard": ERROR},
        breaks=unit(GUARD_TIMER, active="inactive", sub="dead"),
        asks=("systemd",),
        step="units",
        words=GUARD_TIMER,
        mends=True,
    ),
    Cause(
        "the guard failed",
        {"units-guard": WARN},
        breaks=unit(GUARD, active="failed", sub="failed", result="exit-code"),
        asks=("systemd",),
        words=GUARD,
    ),
    Cause(
        "the daily measurement does not wait for its time",
        {"units-calendar": WARN},
        breaks=unit(REGRESS_TIMER, active="inactive", sub="dead"),
        asks=("systemd",),
        step="units",
        words=REGRESS_TIMER,
    ),
    Cause(
        "the daily measurement failed",
        {"units-calendar": WARN},
        breaks=unit("ishowtts-regress.service", active="failed", sub="failed", result="exit-code"),
        asks=("systemd",),
        words="ishowtts-regress.service",
    ),
    Cause(
        "a unit is masked",
        {"units-installed": ERROR},
        breaks=masked,
        step="units",
        words=GUARD_TIMER,
    ),
    Cause(
        "systemd was not told of a drop-in",
        {"units-reload": WARN},
        breaks=units_not_reloaded,
        asks=("systemd",),
        words="NeedDaemonReload",
    ),
    Cause(
        "units wait for each other",
        {"units-cycle": WARN},
        breaks=cycle,
        words="dropped a.service",
    ),
    Cause(
        "nvpmodel failed at boot",
        {"units-others": WARN},
        breaks=unit("nvpmodel.service", active="failed", sub="failed", result="exit-code"),
        asks=("systemd",),
        words="nvpmodel.service",
    ),
]

DAEMONS = [
    Cause(
        "the daemon is stopped",
        {"daemon-running": ERROR},
        breaks=daemon_unit(active="inactive", sub="dead", main_pid=0),
        asks=("systemd",),
        step="daemon",
    ),
    Cause(
        "the daemon was killed for memory",
        {"daemon-running": ERROR},
        breaks=daemon_unit(active="failed", sub="failed", result="oom-kill", main_pid=0),
        asks=("systemd",),
        step="daemon",
        words="lack of memory",
    ),
    Cause(
        "the daemon refuses to start",
        {"daemon-running": ERROR},
        breaks=daemon_unit(
            _REFUSED,
            active="failed",
            sub="failed",
            result="exit-code",
            main_pid=0,
            exit_status=78,
        ),
        asks=("systemd",),
        words="model.safetensors is damaged",
    ),
    Cause(
        "the daemon is warming up",
        {"daemon-running": WARN, "daemon-ready": WARN},
        breaks=both(
            daemon_unit(active="activating", sub="start", status_text="voice 2 of 3"),
            daemon_says(
                status="warming", ready=False, reasons=["warming up: voice 2 of 3"], stage="voice 2"
            ),
        ),
        asks=("systemd", "daemon"),
        words="voice 2 of 3",
    ),
    Cause(
        "the watchdog killed the daemon",
        {"daemon-restarts": WARN},
        breaks=daemon_unit(_KILLED, n_restarts=2),
        asks=("systemd",),
        words="watchdog",
    ),
    Cause(
        "the watchdog killed the daemon in the vocoder",
        {"daemon-restarts": WARN},
        breaks=daemon_unit(_STACKS, n_restarts=2),
        asks=("systemd",),
        words="vocos/heads.py:81 in forward",
    ),
    Cause(
        "the daemon is restarted in a loop",
        {"daemon-restarts": ERROR, "daemon-running": ERROR},
        breaks=daemon_unit(
            active="activating",
            sub="auto-restart",
            result="exit-code",
            main_pid=0,
            n_restarts=7,
        ),
        asks=("systemd",),
        words="7 times",
    ),
    Cause(
        "the daemon does not answer",
        {"daemon-answers": ERROR},
        breaks=daemon_is(silent=True),
        asks=("daemon",),
        step="daemon",
        words="does not answer",
    ),
    Cause(
        "the daemon's engine hangs",
        {"daemon-answers": ERROR},
        breaks=daemon_is(live=503),
        asks=("daemon",),
        step="daemon",
    ),
    Cause(
        "the daemon listens elsewhere",
        {"daemon-answers": ERROR},
        breaks=configured("daemon", port=9),
        asks=("daemon",),
        words=":9",
    ),
    Cause(
        "somebody else has the daemon's port",
        {"daemon-answers": ERROR},
        breaks=daemon_is(ready=["hello"]),
        asks=("daemon",),
        words="not the daemon",
    ),
    Cause(
        "the daemon is not well",
        {"daemon-ready": ERROR},
        breaks=daemon_says(status="failing", ready=False, reasons=["the canary made no sound"]),
        asks=("daemon",),
        step="daemon",
        words="canary",
    ),
    Cause(
        "the daemon computes on the CPU",
        {"daemon-device": ERROR},
        breaks=daemon_says(device="cpu"),
        asks=("daemon",),
    ),
    Cause(
        "requests fail",
        {"daemon-load": WARN},
        breaks=daemon_is(metrics=_FAILING),
        asks=("daemon",),
        words="4 of 94",
    ),
    Cause(
        "too many requests",
        {"daemon-load": WARN},
        breaks=daemon_is(metrics=_BUSY),
        asks=("daemon",),
        words="25 of 115",
    ),
    Cause(
        "the daemon runs with an older configuration",
        {"daemon-current": WARN},
        breaks=edit(CONFIG_PATH, "daemon:", "# a comment\ndaemon:"),
        step="daemon",
    ),
]

VOICE_ROWS = [
    Cause(
        "half of a transcript is missing",
        {"voices-transcript": WARN},
        breaks=both(recording(6.0), guest_says("Hello there, it is me, and then some.")),
        asks=("voices",),
        words="6.2 characters a second",
    ),
    Cause(
        "a transcript has words that are not heard",
        {"voices-transcript": WARN},
        breaks=both(recording(3.0), guest_says("All of this and much more. " * 6)),
        asks=("voices",),
        words="not heard",
    ),
    Cause(
        "a recording is too long",
        {"voices-length": WARN},
        breaks=both(recording(14.0), guest_says("A lot is said in here. " * 10)),
        asks=("voices",),
        words="14.0 s",
    ),
    Cause(
        "a recording is too short",
        {"voices-length": WARN},
        breaks=both(recording(1.5), guest_says("Fifteen letters a second.")),
        asks=("voices",),
        words="1.5 s",
    ),
    Cause(
        "a recording is clipped",
        {"voices-sound": WARN},
        breaks=both(recording(4.0, 3.0), guest_says("One two three four five. " * 2)),
        asks=("voices",),
        words="full scale",
    ),
    Cause(
        "a recording is silent",
        {"voices-sound": WARN},
        breaks=both(recording(4.0, 0.0), guest_says("One two three four five. " * 2)),
        asks=("voices",),
        words="digital silence",
    ),
    Cause(
        "a recording is mostly silence",
        {"voices-sound": WARN},
        breaks=both(recording(4.0, sound=0.3), guest_says("One two three four five. " * 2)),
        asks=("voices",),
        words="70%",
    ),
    Cause(
        "a recording is faint",
        {"voices-sound": WARN},
        breaks=both(recording(4.0, 0.005), guest_says("One two three four five. " * 2)),
        asks=("voices",),
        words="dB",
    ),
]

SPEED = [
    Cause(
        "the daemon became slow",
        {"speed-recent": WARN},
        breaks=daemon_says(recent_rtf=0.352),
        asks=("daemon",),
        words="0.352",
    ),
    Cause(
        "the newest benchmark was slow",
        {"speed-last": WARN},
        breaks=measured((0.169, 5), (0.352, 1)),
        asks=("history",),
        words="108% slower",
    ),
    Cause(
        "nobody measured for a month",
        {"speed-age": WARN},
        breaks=measured((0.15, 30)),
        asks=("history",),
        words="30 days ago",
    ),
    Cause(
        "never measured",
        {"speed-age": INFO},
        breaks=remove("/var/lib/ishowtts-ops/history.db"),
        asks=("history",),
        words="never measured",
    ),
    Cause(
        "the history is damaged",
        {"speed-recent": UNKNOWN},
        breaks=write("/var/lib/ishowtts-ops/history.db", "not a database " * 100),
        asks=("history",),
        words="speed-age",
    ),
]

_GPU = "/sys/class/devfreq/*.gpu"
LOAD = [
    Cause("too hot under load", {"load-heat": ERROR}, under_load=fault("thermal-throttle")),
    Cause("nearly too hot under load", {"load-heat": WARN}, under_load=fault("hot"), words="92.0"),
    Cause(
        "over-current under load",
        {"load-supply": ERROR},
        under_load=fault("over-current"),
        words="oc2_event_cnt",
    ),
    Cause("current peaks under load", {"load-supply": INFO}, under_load=fault("over-current-mild")),
    Cause(
        "a rail above its limit under load",
        {"load-supply": ERROR},
        under_load=fault("rail-alarm"),
        words="VDD_GPU_SOC",
    ),
    Cause(
        "the CPU gives way under load",
        # It stays so on this box, and then it shows without a load as well.
        {"load-clocks": ERROR, "supply-measured": ERROR},
        under_load=fault("oc-throttled-cpu"),
        words="50%",
    ),
    Cause(
        "the GPU gives way under load",
        {"load-clocks": ERROR},
        under_load=sysfs(f"{_GPU}/cur_freq", "612000000\n"),
        words="612 MHz",
    ),
    Cause(
        "slow under load",
        {"load-speed": WARN},
        under_load=lambda box: setattr(box.answers, "speech_rtf", 0.4),
    ),
]

CAUSES = [
    *POWER,
    *HEAT,
    *RIVALS,
    *MEMORY,
    *BOX,
    *ENGINE,
    *PATCH,
    *CONFIG,
    *UNITS,
    *DAEMONS,
    *VOICE_ROWS,
    *SPEED,
    *LOAD,
]

# Several at once: each is named, and nothing else.
TOGETHER = [
    Cause(
        "lost lock and lost patch",
        {**CLOCK_CHECKS, "patch-state": ERROR},
        "clocks-unlocked",
        breaks=source_updated,
    ),
    Cause(
        "heat, a rival and a missing package",
        {"heat-throttle": ERROR, "rivals-active": WARN, "engine-packages": ERROR},
        faults=("thermal-throttle", "rival-tuned"),
        breaks=lambda box: box.no_package("vocos"),
        asks=("rivals", "python_env"),
    ),
    Cause(
        "everything about power",
        {"power-mode": ERROR, **CLOCK_CHECKS, "supply-events": WARN, "heat-margin": WARN},
        faults=("clocks-unlocked", "mode-corrupt", "under-voltage", "hot"),
    ),
]
