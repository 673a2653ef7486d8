"""What each fault writes. Rows of `ishowtts_ops.sim.faults.FAULTS` point here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass

from ishowtts_ops.errors import OpsError
from ishowtts_ops.facts.modules import module_by_key
from ishowtts_ops.sim.boards import RELEASES, Board, find_board
from ishowtts_ops.sim.clocks import EMC_IDLE_HZ, cpu_steps, gpu_steps
from ishowtts_ops.sim.files import Tree
from ishowtts_ops.sim.nvpmodel_conf import conf_text
from ishowtts_ops.sim.sensors import zone_type
from ishowtts_ops.sim.tools import jetson_clocks
from ishowtts_ops.sim.tools.box import FAULTS as FAULT_FOLDER
from ishowtts_ops.sim.tools.box import Box
from ishowtts_ops.sim.tools.kernel import EMC_CLOCK, store
from ishowtts_ops.sim.tools.nvpmodel import CONF, STATUS, apply_mode, stored_mode, write_status
from ishowtts_ops.sim.tools.nvpmodel_conf import Conf, parse_conf

Apply = Callable[[Box], None]


@dataclass(frozen=True)
class Fault:
    """A row of the table: what it is called, what it is, what it does."""

    name: str
    text: str
    apply: Apply


# ---- power mode and clocks -------------------------------------------------------------------


def _conf(box: Box) -> Conf:
    return parse_conf(box.read(CONF))


def rerun(box: Box) -> None:
    conf = _conf(box)
    mode = stored_mode(box, conf) or conf.mode(conf.default or 0)
    if mode is None or apply_mode(box, conf, mode):
        raise OpsError("The box does not take its own power mode.", "Build it anew.")


def emc_unlocked(box: Box) -> None:
    box.write(f"{EMC_CLOCK}/mrq_rate_locked", 0)
    box.write(f"{EMC_CLOCK}/rate", min(EMC_IDLE_HZ, box.read_int(f"{EMC_CLOCK}/max_rate")))


def clocks_unlocked(box: Box) -> None:
    rerun(box)
    emc_unlocked(box)
    for cpu in box.cpus():
        folder = f"/sys/devices/system/cpu/cpu{cpu}/cpuidle"
        for state in box.listdir(folder):
            box.write(f"{folder}/{state}/disable", 0)


def cpu_only(box: Box) -> None:
    clocks_unlocked(box)
    jetson_clocks.lock_cpus(box)


def _devfreq(box: Box) -> str:
    found = box.gpu_devfreq()
    if found is None:
        raise FileNotFoundError(2, "no GPU", "/sys/class/devfreq")
    return found


def gpu_capped(box: Box) -> None:
    """Locked, at the lowest step but one."""
    devfreq = _devfreq(box)
    second = box.read(f"{devfreq}/available_frequencies").split()[1]
    store(box, f"{devfreq}/max_freq", second)
    store(box, f"{devfreq}/min_freq", second)


def core_offline(box: Box) -> None:
    last = max(cpu for cpu in box.cpus() if box.online(cpu))
    store(box, f"/sys/devices/system/cpu/cpu{last}/online", 0)


def gpu_late(box: Box) -> None:
    box.put(f"{FAULT_FOLDER}/gpu-late", "calls 1\n")


def gpu_missing(box: Box) -> None:
    path = _devfreq(box)
    folder = box.path(path).parent
    folder.rename(folder.with_name(".devfreq-gone"))
    box.path(path, follow_last=False).unlink()


def mode_default(box: Box) -> None:
    conf = _conf(box)
    mode = conf.mode(conf.default or 0)
    box.write("/sys/kernel/ishowtts-sim/gpu_used", 0)
    if mode is None or apply_mode(box, conf, mode):
        raise OpsError("The box does not take its default mode.", "Build it anew.")


def mode_missing(box: Box) -> None:
    box.path(STATUS).unlink(missing_ok=True)


def mode_corrupt(box: Box) -> None:
    box.put(STATUS, "pm\0de:\x01")


def mode_unknown(box: Box) -> None:
    write_status(box, 97)


def mode_added(box: Box) -> None:
    board = _board(box)
    where = board.layout
    plain, full = (
        conf_text(board.module, where, board.release.major, optional=optional)
        for optional in (False, True)
    )
    if plain == full:
        raise OpsError("No board of this kind has more modes.", "Take orin-nano-super.")
    box.put(f"/etc/nvpmodel/{board.module.conf_file}", full)


def _board(box: Box) -> Board:
    return find_board(str(box.marker()["board"]))


def conf_missing(box: Box) -> None:
    Tree(box.root).link(CONF.lstrip("/"), "/etc/nvpmodel/nvpmodel_not_there.conf")


def plain_caps(box: Box) -> None:
    """The hardware's limits become those of the part without super; the mode keeps its name."""
    plain = module_by_key(str(box.marker()["module"]).removesuffix("-super"))
    if plain is None or not str(box.marker()["module"]).endswith("-super"):
        raise OpsError("Only a super board can have this fault.", "Take orin-nano-super.")
    assert plain.max_cpu_khz is not None and plain.max_gpu_hz is not None
    for cpu in box.cpus():
        folder = f"/sys/devices/system/cpu/cpu{cpu}/cpufreq"
        steps = " ".join(map(str, cpu_steps(plain.max_cpu_khz)))
        box.write(f"{folder}/scaling_available_frequencies", steps)
        box.write(f"{folder}/cpuinfo_max_freq", plain.max_cpu_khz)
        store(box, f"{folder}/scaling_max_freq", box.read(f"{folder}/scaling_max_freq"))
    devfreq = _devfreq(box)
    steps = " ".join(map(str, gpu_steps(plain.max_gpu_hz)))
    box.write(f"{devfreq}/available_frequencies", steps)
    store(box, f"{devfreq}/max_freq", box.read(f"{devfreq}/max_freq"))


# ---- heat, power, fan ------------------------------------------------------------------------


def _heat(box: Box, milli: int) -> None:
    names = {zone_type(name, box.release_major) for name in ("cpu", "gpu", "tj")}
    for entry in box.listdir("/sys/class/thermal"):
        folder = f"/sys/class/thermal/{entry}"
        if entry.startswith("thermal_zone") and box.read(f"{folder}/type") in names:
            box.write(f"{folder}/temp", milli)


def hot(box: Box) -> None:
    _heat(box, 92000)


def thermal_throttle(box: Box) -> None:
    _heat(box, 99500)
    gpu = _board(box).layout.gpu_name
    acting = {"cpu-throttle-alert": 1, "gpu-throttle-alert": 1, f"devfreq-{gpu}": 4}
    for entry in box.listdir("/sys/class/thermal"):
        folder = f"/sys/class/thermal/{entry}"
        if entry.startswith("cooling_device") and box.read(f"{folder}/type") in acting:
            box.write(f"{folder}/cur_state", acting[box.read(f"{folder}/type")])


def over_current(number: int, events: int) -> Apply:
    def apply(box: Box) -> None:
        path = f"{_hwmon(box, 'soctherm_oc')}/oc{number}_event_cnt"
        box.write(path, box.read_int(path) + events)

    return apply


def _hwmon(box: Box, name: str) -> str:
    found = box.hwmon(name)
    if found is None:
        raise FileNotFoundError(2, "no such monitor", f"hwmon {name}")
    return found


def rail_alarm(box: Box) -> None:
    box.write(f"{_hwmon(box, 'ina3221')}/curr1_crit_alarm", 1)


def half_rate(box: Box) -> None:
    """`scaling_cur_freq` keeps showing what was set; the measured rate is half of it."""
    for cpu in box.cpus():
        folder = f"/sys/devices/system/cpu/cpu{cpu}/cpufreq"
        if box.online(cpu):
            box.write(f"{folder}/cpuinfo_cur_freq", box.read_int(f"{folder}/scaling_cur_freq") // 2)


def fan(pwm: int, rpm: int) -> Apply:
    def apply(box: Box) -> None:
        box.write(f"{_hwmon(box, 'pwmfan')}/pwm1", pwm)
        box.write(f"{_hwmon(box, 'pwm_tach')}/rpm", rpm)

    return apply


def watchdog_reset(box: Box) -> None:
    box.write("/sys/devices/platform/bus@0/c360000.pmc/reset_reason", "LCCPLEXWDT")


# ---- memory and GPU --------------------------------------------------------------------------


def _meminfo(box: Box, changes: Callable[[dict[str, int]], dict[str, int]]) -> None:
    text = box.read("/proc/meminfo")
    values = {key: int(number) for key, number in re.findall(r"^(\w+):\s+(\d+)", text, re.M)}
    values |= changes(values)
    box.put("/proc/meminfo", "".join(f"{k + ':':16}{v:8} kB\n" for k, v in values.items()))


def low_memory(box: Box) -> None:
    _meminfo(
        box,
        lambda now: {
            "MemFree": now["MemTotal"] // 100,
            "MemAvailable": now["MemTotal"] // 50,
            "Cached": now["MemTotal"] // 60,
        },
    )


def swap_heavy(box: Box) -> None:
    _meminfo(box, lambda now: {"SwapFree": now["SwapTotal"] // 2})
    lines = box.read("/proc/swaps").splitlines()
    rows = [row.split() for row in lines[1:]]
    used = [f"{r[0]:<40}{r[1]}\t{r[2]}\t\t{int(r[2]) // 2}\t\t{r[4]}" for r in rows]
    box.put("/proc/swaps", "\n".join([lines[0], *used]) + "\n")


def oom_kills(box: Box) -> None:
    text = re.sub(r"^oom_kill \d+", "oom_kill 3", box.read("/proc/vmstat"), flags=re.M)
    box.put("/proc/vmstat", text + "\n")


def _nvmap(box: Box, process: str, pid: int, kilobytes: int) -> None:
    """Add a client and bring the total up to date."""
    path = "/sys/kernel/debug/nvmap/iovmm/clients"
    head, *rows = box.read(path).splitlines()
    rows = [row for row in rows if not row.startswith("total")]
    rows.append(f"{'user':<30}{process:<15}{pid:>9}{f'{kilobytes}K':>8}")
    total = sum(int(row.split()[-1].rstrip("K")) for row in rows)
    rows.append(f"{'total':<30}{'':<15}{'':>9}{f'{total}K':>8}")
    box.write(path, "\n".join([head, *rows]))


def gpu_process(box: Box) -> None:
    _nvmap(box, "vlm-server", 4321, 524288)


def desktop(box: Box) -> None:
    Tree(box.root).link("etc/systemd/system/default.target", "/lib/systemd/system/graphical.target")
    _nvmap(box, "Xorg", 1201, 182016)
    _nvmap(box, "gnome-shell", 1543, 402432)


# ---- identity --------------------------------------------------------------------------------


def _release_line(box: Box, line: str) -> None:
    rest = box.path("/etc/nv_tegra_release").read_text(encoding="utf-8").split("\n", 1)[1]
    box.put("/etc/nv_tegra_release", f"{line}\n{rest}")


def release_with_bug(box: Box) -> None:
    _release_line(box, RELEASES["36.4.7"].first_line)


def release_unknown(box: Box) -> None:
    line = RELEASES["36.4.3"].first_line
    _release_line(box, line.replace("R36", "R47").replace("REVISION: 4.3", "REVISION: 1.0"))


def release_garbage(box: Box) -> None:
    box.put("/etc/nv_tegra_release", "\x00\xff not a release\n")


def module_unknown(box: Box) -> None:
    base = "/sys/firmware/devicetree/base"
    box.put(f"{base}/compatible", "acme,talker+p9999-0001\0nvidia,tegra234\0")
    box.put(f"{base}/model", "ACME Talking Box\0")


def model_wrong(box: Box) -> None:
    agx = str(box.marker()["module"]).startswith("agx")
    other = "Orin Nano Engineering Reference" if agx else "AGX Orin"
    model = f"NVIDIA Jetson {other} Developer Kit\0"
    box.put("/sys/firmware/devicetree/base/model", model)


# ---- who else wants the clocks ---------------------------------------------------------------


def jtop_boot(box: Box) -> None:
    config = {"jetson_clocks": {"boot": True, "wait": 60}}
    box.put("/usr/local/jtop/config.json", json.dumps(config))


def _enabled_unit(box: Box, name: str, text: str) -> None:
    box.put(f"/etc/systemd/system/{name}", text)
    link = f"etc/systemd/system/multi-user.target.wants/{name}"
    Tree(box.root).link(link, f"/etc/systemd/system/{name}")


def rival(name: str, command: str) -> Apply:
    def apply(box: Box) -> None:
        _enabled_unit(
            box,
            f"{name}.service",
            f"[Unit]\nDescription={name} (simulated)\n\n"
            f"[Service]\nExecStart=/usr/sbin/{command}\n\n[Install]\nWantedBy=multi-user.target\n",
        )

    return apply


def hand_made_unit(box: Box) -> None:
    _enabled_unit(
        box,
        "jetson_clocks.service",
        "[Unit]\nDescription=Maximise clocks\nAfter=multi-user.target\n\n"
        "[Service]\nType=oneshot\nExecStart=/usr/bin/jetson_clocks\n\n"
        "[Install]\nWantedBy=multi-user.target\n",
    )
