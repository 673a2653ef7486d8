"""The clocks of a simulated box in sysfs, as a cold boot leaves them: CPU, GPU, EMC."""

from __future__ import annotations

from ishowtts_ops.facts.modules import modes_for
from ishowtts_ops.sim.boards import Board
from ishowtts_ops.sim.files import Tree
from ishowtts_ops.sim.layout import Layout

CPU_LOWEST_KHZ = 115200
CPU_STEP_KHZ = 76800
CLUSTER = 4
GPU_LOWEST_HZ = 306000000
GPU_STEP_HZ = 102000000
EMC_LOWEST_HZ = 204000000
EMC_IDLE_HZ = 2133000000
# AGX Thor: limits as its boxes report them. Its steps are in no source: 9 MHz is the widest grid
# that has all the rates that are known. Its CPUs' lowest rate, steps and clusters are Orin's.
THOR_GPU_LOWEST_HZ = 315000000
THOR_GPU_STEP_HZ = 9000000
THOR_VIDEO_HZ = 1692000000
THOR_EMC_LOWEST_HZ = 665600000
_CPU = "sys/devices/system/cpu"


def write_clocks(tree: Tree, board: Board) -> None:
    """Every clock unlocked and no power mode applied."""
    _cpus(tree, board)
    _gpu(tree, board)
    _emc(tree, board)


def cpu_steps(highest: int) -> list[int]:
    """Orin's CPU rates in kHz up to `highest`, which need not be on the grid."""
    steps = list(range(CPU_LOWEST_KHZ, highest, CPU_STEP_KHZ))
    return [*steps, highest]


def gpu_steps(highest: int, *, thor: bool = False) -> list[int]:
    lowest, step = (GPU_LOWEST_HZ, GPU_STEP_HZ)
    if thor:
        lowest, step = (THOR_GPU_LOWEST_HZ, THOR_GPU_STEP_HZ)
    return [*range(lowest, highest, step), highest]


def _cpus(tree: Tree, board: Board) -> None:
    count = board.module.cpu_cores
    everyone = f"0-{count - 1}"
    tree.files(
        _CPU,
        {
            "online": everyone,
            "present": everyone,
            "possible": everyone,
            "offline": "",
            "kernel_max": count - 1,
        },
    )
    highest = board.max_cpu_khz
    for first in range(0, count, CLUSTER):
        members = " ".join(str(cpu) for cpu in range(first, min(first + CLUSTER, count)))
        tree.files(
            f"{_CPU}/cpufreq/policy{first}",
            {
                "affected_cpus": members,
                "related_cpus": members,
                "cpuinfo_min_freq": CPU_LOWEST_KHZ,
                "cpuinfo_max_freq": highest,
                "cpuinfo_cur_freq": CPU_LOWEST_KHZ,
                "scaling_min_freq": CPU_LOWEST_KHZ,
                "scaling_max_freq": highest,
                "scaling_cur_freq": CPU_LOWEST_KHZ,
                "scaling_available_frequencies": " ".join(map(str, cpu_steps(highest))),
                "scaling_available_governors": "conservative ondemand userspace powersave "
                "performance schedutil",
                "scaling_driver": "tegra194",
                "scaling_governor": "schedutil",
            },
        )
    for cpu in range(count):
        tree.files(f"{_CPU}/cpu{cpu}", {"online": 1})
        tree.link(f"{_CPU}/cpu{cpu}/cpufreq", f"../cpufreq/policy{cpu - cpu % CLUSTER}")
        tree.files(
            f"{_CPU}/cpu{cpu}/topology",
            {"physical_package_id": 0, "cluster_id": cpu // CLUSTER, "core_id": cpu % CLUSTER},
        )
        for number, name in enumerate(("WFI", "cc7" if board.thor else "c7")):
            tree.files(f"{_CPU}/cpu{cpu}/cpuidle/state{number}", {"name": name, "disable": 0})


def _gpu(tree: Tree, board: Board) -> None:
    where = board.layout
    if board.thor:
        # What else Thor's GPU has in its folder is in no source, a power-gating mask included.
        for name, highest in (
            (where.gpu_name, board.max_gpu_hz),
            (where.video_name, THOR_VIDEO_HZ),
        ):
            _devfreq(tree, where, name, gpu_steps(highest, thor=True))
        return
    masks = [mode.tpc_pg_mask for mode in modes_for(board.module)]
    tree.files(
        where.gpu,
        {
            # The fullest GPU of all modes: what the fuses leave before a mode takes more away.
            "tpc_pg_mask": min(mask for mask in masks if mask is not None),
            "fbp_pg_mask": 2 if "nano" in board.module.key else 0,
            "gpc_pg_mask": 0,
            "railgate_enable": 1,
            "load": 0,
            "power/control": "auto",
            "power/runtime_status": "active",
        },
    )
    _devfreq(tree, where, where.gpu_name, gpu_steps(board.max_gpu_hz))
    tree.file(f"{where.gpu}/of_node/name", "gpu\0")
    tree.link(f"{where.gpu}/devfreq_dev", f"devfreq/{where.gpu_name}")
    for link in where.gpu_links:
        tree.relative_link(link, where.gpu)


def _devfreq(tree: Tree, where: Layout, name: str, steps: list[int]) -> None:
    tree.files(
        where.devfreq_of(name),
        {
            "name": name,
            "available_frequencies": " ".join(map(str, steps)),
            "available_governors": "nvhost_podgov userspace performance simple_ondemand",
            "governor": "nvhost_podgov",
            "min_freq": steps[0],
            "max_freq": steps[-1],
            "cur_freq": steps[0],
            "target_freq": steps[0],
            "polling_interval": 25,
        },
    )
    tree.link(f"{where.devfreq_of(name)}/device", "../..")
    tree.relative_link(f"sys/class/devfreq/{name}", where.devfreq_of(name))


def _emc(tree: Tree, board: Board) -> None:
    where = board.layout
    highest = board.max_emc_hz
    tree.file(where.emc_cap, highest if where.emc_cap_none < 0 else where.emc_cap_none)
    tree.files(
        "sys/kernel/debug/bpmp/debug/clk/emc",
        {
            "rate": min(EMC_IDLE_HZ, highest),
            "min_rate": THOR_EMC_LOWEST_HZ if board.thor else EMC_LOWEST_HZ,
            "max_rate": highest,
            "mrq_rate_locked": 0,
        },
    )
