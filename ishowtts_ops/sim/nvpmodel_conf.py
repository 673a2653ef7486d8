"""Writes nvpmodel configurations from the mode table, in nvpmodel's format and our own words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ishowtts_ops.facts.modules import UNCAPPED, Module, PowerMode, modes_for
from ishowtts_ops.sim.layout import Layout

CPU_MIN_KHZ = 729600
"""What every mode sets as the CPUs' minimum, whatever it was before."""

_CPU = "/sys/devices/system/cpu"


def conf_text(module: Module, layout: Layout, release_major: int, *, optional: bool = False) -> str:
    """The text of the module's `/etc/nvpmodel/*.conf`.

    Args:
        optional: with the modes that only some boards have.
    """
    modes = [mode for mode in modes_for(module) if optional or not mode.optional]
    lines = [
        "# Written for a simulated Jetson from documented values; no NVIDIA file.",
        *_params(module, layout),
    ]
    for mode in modes:
        lines += ["", f"< POWER_MODEL ID={mode.id} NAME={mode.name} >"]
        lines += _settings(module, mode, release_major, gated=bool(layout.gpu_links))
    default = next(mode.id for mode in modes if mode.default)
    return "\n".join([*lines, "", f"< PM_CONFIG DEFAULT={default} >", ""])


def _params(module: Module, layout: Layout) -> Iterator[str]:
    cores = range(module.cpu_cores)
    yield from _param("FILE", "CPU_ONLINE", ((f"CORE_{n}", f"{_CPU}/cpu{n}/online") for n in cores))
    if layout.gpu_links:
        yield from _gating(module, f"/{layout.gpu_links[0]}")
    for n in cores:
        folder = f"{_CPU}/cpu{n}/cpufreq"
        yield from _param(
            "CLOCK",
            f"CPU_A78_{n}",
            [
                ("FREQ_TABLE", f"{folder}/scaling_available_frequencies"),
                ("MAX_FREQ", f"{folder}/scaling_max_freq"),
                ("MIN_FREQ", f"{folder}/scaling_min_freq"),
            ],
        )
    yield from _param(
        "CLOCK",
        "GPU",
        [
            ("FREQ_TABLE", f"{_devfreq(layout)}/available_frequencies"),
            ("MAX_FREQ", f"{_devfreq(layout)}/max_freq"),
            ("MIN_FREQ", f"{_devfreq(layout)}/min_freq"),
        ],
    )
    # nvpmodel's files write this one header without the space.
    yield from ("", "<PARAM TYPE=CLOCK NAME=EMC >", f"MAX_FREQ /{layout.emc_cap}")


def _gating(module: Module, gpu: str) -> Iterator[str]:
    """Thor has none of these: neither masks nor this switch are known of its GPU."""
    if "nano" in module.key:
        yield from _param("FILE", "FBP_POWER_GATING", [("FBP_PG_MASK", f"{gpu}/fbp_pg_mask")])
    yield from _param("FILE", "TPC_POWER_GATING", [("TPC_PG_MASK", f"{gpu}/tpc_pg_mask")])
    for which, arg in (("ENABLE", "EN"), ("DISABLE", "DIS")):
        control = [(f"GPU_PWR_CNTL_{arg}", f"{gpu}/power/control")]
        yield from _param("FILE", f"GPU_POWER_CONTROL_{which}", control)


def _devfreq(layout: Layout) -> str:
    """Where the conf finds the GPU's clock. Thor's real file is in no source: the device that
    computes is a placeholder for whatever it names, and the video engines are left uncapped."""
    if not layout.gpu_links:
        return f"/sys/class/devfreq/{layout.gpu_name}"
    folder = layout.gpu_links[-1] if "platform" in layout.gpu else layout.gpu
    return f"/{folder}/devfreq_dev"


def _param(kind: str, name: str, paths: Iterable[tuple[str, str]]) -> Iterator[str]:
    yield from ("", f"< PARAM TYPE={kind} NAME={name} >")
    for arg, path in paths:
        yield f"{arg} {path}"


def _settings(module: Module, mode: PowerMode, release_major: int, *, gated: bool) -> Iterator[str]:
    for n in range(module.cpu_cores):
        yield f"CPU_ONLINE CORE_{n} {int(n < mode.cores_online)}"
    if "nano" in module.key:
        yield "FBP_POWER_GATING FBP_PG_MASK 2"
    if mode.tpc_pg_mask is not None:
        yield f"TPC_POWER_GATING TPC_PG_MASK {mode.tpc_pg_mask}"
    if gated:
        yield "GPU_POWER_CONTROL_ENABLE GPU_PWR_CNTL_EN on"
    for n in range(module.cpu_cores):
        yield f"CPU_A78_{n} MIN_FREQ {CPU_MIN_KHZ}"
        if n < mode.cores_online:
            yield f"CPU_A78_{n} MAX_FREQ {mode.cpu_cap_khz(release_major)}"
    yield "GPU MIN_FREQ 0"
    yield f"GPU MAX_FREQ {mode.gpu_max_hz}"
    if gated:
        yield "GPU_POWER_CONTROL_DISABLE GPU_PWR_CNTL_DIS auto"
    # The plain files say "not capped" with 0, the super files with -1.
    uncapped = UNCAPPED if module.is_super else 0
    yield f"EMC MAX_FREQ {uncapped if mode.emc_max_hz == UNCAPPED else mode.emc_max_hz}"
