"""`jetson_clocks --show` as releases 35, 36 and 39 print it (R38 like R36: not documented).

On Thor the GPU's clocks are two lines, named as in devfreq, and no TPCs are counted. Its PVA lines
are left out: they are known of R38 only.
"""

from __future__ import annotations

from .box import Box, ranges
from .kernel import EMC_CLOCK

# The engines beside the GPU, as AGX Orin boxes print them; MAXN rates, except R36's DLA rate, which
# was taken in MODE_30W.
_ENGINES = {
    35: (1600000000, 844800000, 1152000000, 832000000),
    36: (1369600000, 844800000, 1152000000, 832000000),
    39: (1600000000, 844800000, 1369600000, 985600000),
}


def show(box: Box) -> None:
    marker = box.marker()
    major = int(marker["release_major"])
    cpus = box.cpus()
    on = [cpu for cpu in cpus if box.online(cpu)]
    off = [cpu for cpu in cpus if cpu not in on]
    print(f"SOC family:{box.soc}  Machine:{marker['model']}")
    offline = f", Offline CPUs: {ranges(off)}" if major >= 39 else ""
    print(f"Online CPUs: {ranges(on)}{offline}")
    for cpu in cpus:
        print(_cpu(box, cpu, major))
    _gpu(box, major)
    print(_emc(box, major))
    if marker.get("dla"):
        _engines(major)
    _fan(box, major)
    _mode(box)


def _cpu(box: Box, cpu: int, major: int) -> str:
    folder = f"/sys/devices/system/cpu/cpu{cpu}"
    freq = f"{folder}/cpufreq"
    online = "" if major >= 39 else f"Online={int(box.online(cpu))} "
    states = "".join(
        f"{box.read(f'{folder}/cpuidle/{state}/name')}="
        f"{1 - box.read_int(f'{folder}/cpuidle/{state}/disable')} "
        for state in box.listdir(f"{folder}/cpuidle")
    )
    name = f"cpu{cpu}:" if major <= 35 else f"cpu{cpu}:".ljust(6)
    return (
        f"{name} {online}Governor={box.read(f'{freq}/scaling_governor')} "
        f"MinFreq={box.read(f'{freq}/scaling_min_freq')} "
        f"MaxFreq={box.read(f'{freq}/scaling_max_freq')} "
        f"CurrentFreq={box.read(f'{freq}/scaling_cur_freq')} IdleStates: {states}"
    )


def _gpu(box: Box, major: int) -> None:
    device = box.gpu_device()
    for devfreq in box.gpu_devfreqs():
        name = "GPU" if box.soc == "tegra234" else devfreq.rsplit("/", 1)[-1]
        low, high, now = (box.read(f"{devfreq}/{rate}_freq") for rate in ("min", "max", "cur"))
        print(f"{name} MinFreq={low} MaxFreq={high} CurrentFreq={now}")
    if major >= 36 and device is not None and box.exists(f"{device}/tpc_pg_mask"):
        gated = box.read_int(f"{device}/tpc_pg_mask").bit_count()
        print(f"Active GPU TPCs: {8 - gated}")


def _emc(box: Box, major: int) -> str:
    low, high, now = (box.read(f"{EMC_CLOCK}/{name}") for name in ("min_rate", "max_rate", "rate"))
    locked = box.read(f"{EMC_CLOCK}/mrq_rate_locked")
    if major >= 39:
        return f"EMC MinFreq={now if locked == '1' else low} MaxFreq={high} CurrentFreq={now}"
    return f"EMC MinFreq={low} MaxFreq={high} CurrentFreq={now} FreqOverride={locked}"


def _engines(major: int) -> None:
    core, falcon, vps, axi = _ENGINES[39 if major >= 39 else max(35, min(major, 36))]
    for name, rate in (
        ("DLA0_CORE:  ", core),
        ("DLA0_FALCON:", falcon),
        ("DLA1_CORE:  ", core),
        ("DLA1_FALCON:", falcon),
        ("PVA0_VPS0:", vps),
        ("PVA0_AXI: ", axi),
    ):
        print(f"{name} Online=1 MinFreq=0 MaxFreq={rate} CurrentFreq={rate}")


def _fan(box: Box, major: int) -> None:
    folder = box.hwmon("pwmfan")
    if folder is None:
        return
    hwmon = folder.rsplit("/", 1)[-1]
    pwm = box.read(f"{folder}/pwm1")
    if major <= 35:
        print(f"FAN Dynamic Speed control=active {hwmon}_pwm1={pwm}")
        return
    print(f"FAN Dynamic Speed Control=nvfancontrol {hwmon}_pwm1={pwm}")
    if major >= 39:
        print(
            "FAN Dynamic Speed Control=nvfancontrol "
            f"{hwmon}_pwm1_enable={box.read(f'{folder}/pwm1_enable')}"
        )


def _mode(box: Box) -> None:
    from .nvpmodel import CONF, stored_mode
    from .nvpmodel_conf import parse_conf

    try:
        mode = stored_mode(box, parse_conf(box.read(CONF)))
    except (OSError, ValueError, KeyError):
        mode = None
    if mode is not None:
        print(f"NV Power Mode: {mode.name}")
