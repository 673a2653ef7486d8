"""Named faults of a simulated box: what makes boxes slow, as it shows in their files.

To add one, write a function `(box) -> None` in `fault_kinds` and give it a row here. Faults
can be combined; each changes only what its one line says.
"""

from __future__ import annotations

from pathlib import Path

from ishowtts_ops.errors import OpsError, UsageError
from ishowtts_ops.sim import fault_kinds as kind
from ishowtts_ops.sim.fault_kinds import Fault
from ishowtts_ops.sim.tools.box import Box
from ishowtts_ops.sim.tree import board_of

_SERVICES = (
    ("tuned", "tuned", "tuned"),
    ("auto-cpufreq", "auto-cpufreq", "auto-cpufreq --daemon"),
    ("ppd", "power-profiles-daemon", "ppd"),
)
"""Services that set clocks: short name, unit, command."""

_ROWS: tuple[tuple[str, str, kind.Apply], ...] = (
    # power mode and clocks
    ("clocks-unlocked", "no clock is locked, as after a boot", kind.clocks_unlocked),
    ("clocks-cpu-only", "the CPUs alone are locked: jetson_clocks came too early", kind.cpu_only),
    ("clocks-rerun", "nvpmodel was run again: CPU and GPU unlocked, EMC still locked", kind.rerun),
    ("emc-unlocked", "the memory clock alone is not locked", kind.emc_unlocked),
    ("gpu-capped", "somebody locked the GPU below the mode's maximum", kind.gpu_capped),
    ("core-offline", "a core that the mode has online is off", kind.core_offline),
    (
        "gpu-late",
        "from the next boot on the GPU comes up after jetson_clocks' first run",
        kind.gpu_late,
    ),
    ("gpu-missing", "the GPU's devfreq is not there", kind.gpu_missing),
    ("mode-default", "the box is in its default mode, not the fastest", kind.mode_default),
    ("mode-missing", "nvpmodel's status file is gone", kind.mode_missing),
    ("mode-corrupt", "nvpmodel's status file holds garbage", kind.mode_corrupt),
    ("mode-unknown", "nvpmodel's status names a mode the file does not have", kind.mode_unknown),
    ("conf-missing", "/etc/nvpmodel.conf leads nowhere", kind.conf_missing),
    ("super-plain-caps", "super modes by name, with the caps of old firmware", kind.plain_caps),
    ("mode-added", "nvpmodel's file has a mode more, as some boards do", kind.mode_added),
    # heat, power, fan
    ("thermal-throttle", "the GPU and CPU throttle at 99.5 °C", kind.thermal_throttle),
    ("hot", "92 °C, not yet throttling", kind.hot),
    ("over-current", "OC2 events; each application counts seven more", kind.over_current(2, 7)),
    ("under-voltage", "OC1 events; each application counts two more", kind.over_current(1, 2)),
    ("over-current-mild", "OC3 events, common on a Nano Super", kind.over_current(3, 40)),
    ("rail-alarm", "a rail's critical current alarm is up", kind.rail_alarm),
    ("oc-throttled-cpu", "the measured CPU rate is half of the one set", kind.half_rate),
    ("fan-stopped", "the fan is off", kind.fan(0, 0)),
    ("fan-stuck", "the fan is driven but does not turn", kind.fan(200, 0)),
    ("watchdog-reset", "the last reset came from the hardware watchdog", kind.watchdog_reset),
    # memory and GPU
    ("low-memory", "2 % of the memory is available", kind.low_memory),
    ("swap-heavy", "half of the swap is in use", kind.swap_heavy),
    ("oom-kills", "the kernel killed processes for memory", kind.oom_kills),
    ("gpu-process", "another process holds 512 MB of GPU memory", kind.gpu_process),
    ("desktop", "the box boots into a desktop, which holds GPU memory", kind.desktop),
    # identity
    (
        "release-36.4.7",
        "L4T 36.4.7, whose CUDA allocations above 3 GiB fail",
        kind.release_with_bug,
    ),
    ("release-unknown", "an L4T release nobody has heard of", kind.release_unknown),
    ("release-garbage", "/etc/nv_tegra_release holds no release", kind.release_garbage),
    ("module-unknown", "a module that is in no table", kind.module_unknown),
    ("model-wrong", "the model string names another board", kind.model_wrong),
    # who else wants the clocks
    ("rival-jtop", "jtop is set to run jetson_clocks at boot", kind.jtop_boot),
    *(
        (f"rival-{short}", f"{unit} is enabled", kind.rival(unit, command))
        for short, unit, command in _SERVICES
    ),
    ("rival-unit", "a hand-made jetson_clocks unit with an ordering cycle", kind.hand_made_unit),
)

FAULTS = {name: Fault(name, text, apply) for name, text, apply in _ROWS}


def apply_fault(root: Path, name: str) -> None:
    """Break the simulated box at `root` in one way.

    Raises:
        UsageError: no such fault.
        OpsError: no simulated box there, or the fault does not fit this board or kind of box.
    """
    fault = FAULTS.get(name)
    if fault is None:
        raise UsageError(f"No fault {name!r}.", f"These are: {', '.join(FAULTS)}.")
    board_of(root)
    try:
        fault.apply(Box(root.resolve()))
    except FileNotFoundError as error:
        raise OpsError(
            f"The fault {name!r} does not fit this box: it has no {error.filename}.",
            "Take another board, or a box in a folder.",
        ) from None
