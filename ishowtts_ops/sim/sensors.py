"""Thermal zones, cooling devices, rails, over-current counters and the fan of a simulated box."""

from __future__ import annotations

from ishowtts_ops.sim.boards import Board
from ishowtts_ops.sim.files import Tree

PASSIVE_MC = 99000
CRITICAL_MC = 104500
OFF_MC = -256000
"""What a zone of a powered-down block answers, in millidegrees."""

TEMPERATURES_MC = {
    "cv0": OFF_MC,
    "cpu": 47875,
    "tboard": 32000,
    "soc2": 46750,
    "tdiode": 33250,
    "soc0": 47281,
    "cv1": OFF_MC,
    "gpu": 50218,
    "tj": 50218,
    "soc1": 48281,
    "cv2": OFF_MC,
}
"""An idle box, in the order in which tegrastats prints its zones."""

_BOARD_SENSORS = ("tboard", "tdiode")
_THROTTLED = ("cpu", "gpu", "cv0", "cv1", "cv2", "soc0", "soc1", "soc2")
_GPU_STATES = 10


def write_sensors(tree: Tree, board: Board) -> None:
    _zones(tree, board)
    _cooling(tree, board)
    _hwmon(tree, board)
    if board.release.major >= 36:
        tree.files("sys/devices/platform/bus@0/c360000.pmc", {"reset_reason": "SYS_RESET_N"})


def zone_type(short: str, release_major: int) -> str:
    """The zone's `type` attribute: `cpu-thermal`, or on R35 `CPU-therm`."""
    if release_major >= 36:
        return f"{short}-thermal"
    if short in _BOARD_SENSORS:
        return f"{short.capitalize()}_tegra"
    return "tj-therm" if short == "tj" else f"{short.upper()}-therm"


def _zones(tree: Tree, board: Board) -> None:
    agx = board.module.key.startswith("agx")
    names = [name for name in TEMPERATURES_MC if agx or name not in _BOARD_SENSORS]
    for number, name in enumerate(names):
        folder = f"sys/devices/virtual/thermal/thermal_zone{number}"
        tree.files(folder, {"type": zone_type(name, board.release.major), "mode": "enabled"})
        if name == "cv2" and board.release.major >= 36:
            # The real zone answers EAGAIN. A file cannot, but reading a folder fails as well.
            tree.mkdir(f"{folder}/temp")
        else:
            tree.file(f"{folder}/temp", TEMPERATURES_MC[name])
        if name not in _BOARD_SENSORS:
            tree.files(
                folder,
                {
                    "trip_point_0_type": "passive",
                    "trip_point_0_temp": PASSIVE_MC,
                    "trip_point_1_type": "critical",
                    "trip_point_1_temp": CRITICAL_MC,
                },
            )
        tree.relative_link(f"sys/class/thermal/thermal_zone{number}", folder)


def _cooling(tree: Tree, board: Board) -> None:
    gpu = board.layout.gpu_name
    devices = [(f"{name}-throttle-alert", 1) for name in _THROTTLED]
    devices += [(f"devfreq-{gpu}", _GPU_STATES), ("pwm-fan", 3)]
    for number, (kind, states) in enumerate(devices):
        folder = f"sys/devices/virtual/thermal/cooling_device{number}"
        tree.files(folder, {"type": kind, "cur_state": 0, "max_state": states})
        tree.relative_link(f"sys/class/thermal/cooling_device{number}", folder)


def _hwmon(tree: Tree, board: Board) -> None:
    """The monitors in the order in which this release numbers them."""
    devices = board.layout.devices
    fan: dict[str, str | int] = {"name": "pwmfan", "pwm1": 55, "pwm1_enable": 1}
    monitors: list[tuple[str, dict[str, str | int]]] = [
        (f"{devices}/c240000.i2c/i2c-1/1-{address}", _rails(board, address))
        for address in sorted({rail.address for rail in board.rails})
    ]
    monitors.append(("sys/devices/platform/soctherm-oc-event", _over_current()))
    monitors.append((f"{devices}/39c0000.tachometer", {"name": "pwm_tach", "rpm": 1790}))
    place = 0 if board.release.major in (36, 38) else 2
    monitors.insert(place, ("sys/devices/platform/pwm-fan", fan))
    for number, (device, values) in enumerate(monitors):
        folder = f"{device}/hwmon/hwmon{number}"
        tree.files(folder, values)
        tree.link(f"{folder}/device", "../..")
        tree.relative_link(f"sys/class/hwmon/hwmon{number}", folder)


def _rails(board: Board, address: str) -> dict[str, str | int]:
    values: dict[str, str | int] = {"name": "ina3221"}
    for channel in (1, 2, 3):
        rail = next((r for r in board.rails if (r.address, r.channel) == (address, channel)), None)
        volts = rail.millivolt if rail else 0
        amps = round(rail.milliwatt * 1000 / rail.millivolt) if rail else 0
        values |= {
            f"in{channel}_label": rail.label if rail else "NC",
            f"in{channel}_input": volts,
            f"curr{channel}_input": amps,
            f"curr{channel}_crit": 32760,
            f"curr{channel}_crit_alarm": 0,
            f"curr{channel}_max": 32760,
            f"curr{channel}_max_alarm": 0,
        }
    return values


def _over_current() -> dict[str, str | int]:
    values: dict[str, str | int] = {"name": "soctherm_oc"}
    for number in (1, 2, 3):
        values |= {f"oc{number}_event_cnt": 0, f"oc{number}_throt_en": 1}
    return values
