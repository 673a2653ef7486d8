"""Is there memory for the engine? RAM is the GPU's memory too."""

from __future__ import annotations

import re

from ishowtts_ops.doctor.checks_box import DESKTOP, boots_into_desktop
from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import (
    Check,
    Evidence,
    Finding,
    NotKnown,
    Severity,
    by_hand,
    gib,
    known,
)
from ishowtts_ops.facts.gpu import NVMAP_CLIENTS
from ishowtts_ops.facts.identity import RELEASE_PATH
from ishowtts_ops.facts.memory import (
    GIB,
    MEMINFO,
    SWAPS,
    VMSTAT,
    Memory,
    cuda_allocation_limit,
)
from ishowtts_ops.facts.systemd import read_journal
from ishowtts_ops.facts.value import Unknown
from ishowtts_ops.provision.units import DAEMON

ENGINE_NEEDS = 5 * GIB // 2
"""What the F5 engine takes at start: 1.35 GB of weights read and converted to fp16, the vocoder,
CUDA's own context and the workspace of one request. Not measured on an Orin yet."""
RESERVE = GIB // 2
RESERVE_SHARE = 0.03
"""Below the larger of these the kernel starts to throw out pages that are in use."""
SWAPPED = GIB // 2
"""Swapped out: more than what long idle services leave there."""
_NVMAP = re.compile(r"NvMapMemAlloc\w*.{0,80}\berror 12\b")
_LOG_LINES = 2000
CLIENT_SIZE = 256 << 20
"""GPU memory below which another process is not worth a word."""


def _headroom(exam: Examination) -> list[Finding]:
    memory = known(exam.facts.memory)
    needed, why = _needed(exam, memory)
    evidence = (
        Evidence(f"{MEMINFO} MemAvailable", gib(memory.available)),
        Evidence(f"{MEMINFO} MemTotal", gib(memory.total)),
    )
    if memory.available >= needed:
        text = f"{gib(memory.available)} of {gib(memory.total)} of memory can be had."
        return [Finding("memory-headroom", Severity.OK, text, evidence)]
    severe = memory.available < RESERVE / 2
    return [
        Finding(
            "memory-headroom",
            Severity.ERROR if severe else Severity.WARN,
            f"Only {gib(memory.available)} of memory can be had, and {why}.",
            evidence,
            by_hand(
                "End what takes the memory; the largest come first here.",
                ("ps", "axo", "rss,pid,comm", "--sort=-rss"),
            ),
        )
    ]


def _needed(exam: Examination, memory: Memory) -> tuple[int, str]:
    systemd = exam.facts.systemd
    running = False
    if not isinstance(systemd, Unknown) and not isinstance(systemd.units, Unknown):
        unit = systemd.units.get(DAEMON)
        running = unit is not None and unit.pid > 0
    if running or exam.settings.engine.kind != "f5" or exam.settings.f5.weights == "random":
        reserve = max(RESERVE, int(memory.total * RESERVE_SHARE))
        return reserve, f"below {gib(reserve)} the box starts to crawl"
    return ENGINE_NEEDS, f"the engine takes about {gib(ENGINE_NEEDS)} when it starts"


def _swap(exam: Examination) -> list[Finding]:
    memory = known(exam.facts.memory)
    evidence = (
        Evidence(f"{SWAPS} on disk", gib(memory.disk_swap_used)),
        Evidence(f"{SWAPS} zram", gib(memory.zram_used)),
    )
    crowded = memory.zram_used > max(SWAPPED, memory.total // 10)
    if memory.disk_swap_used > SWAPPED or crowded:
        if memory.disk_swap_used > SWAPPED:
            text = (
                f"{gib(memory.disk_swap_used)} of memory is swapped out to disk, and speech waits"
                " whenever some of it is needed."
            )
        else:
            text = (
                f"{gib(memory.zram_used)} of memory is squeezed into compressed swap (zram), which"
                " takes CPU time from speech."
            )
        remedy = by_hand(
            "End what takes the memory; the largest come first here.",
            ("ps", "axo", "rss,pid,comm", "--sort=-rss"),
        )
        return [Finding("memory-swap", Severity.WARN, text, evidence, remedy)]
    return [Finding("memory-swap", Severity.OK, "Swap is hardly used.", evidence)]


def _oom(exam: Examination) -> list[Finding]:
    kills = known(known(exam.facts.memory).oom_kills)
    evidence = (Evidence(f"{VMSTAT} oom_kill", str(kills)),)
    if kills == 0:
        text = "Nothing was killed for lack of memory since boot."
        return [Finding("memory-oom", Severity.OK, text, evidence)]
    times = "once" if kills == 1 else f"{kills} times"
    return [
        Finding(
            "memory-oom",
            Severity.WARN,
            f"Since boot the kernel killed a process for lack of memory {times}.",
            evidence,
            by_hand(
                "Read in the kernel's log what was killed and what took the memory.",
                ("sudo", "journalctl", "-k", "-b", "--grep", "oom-kill|Out of memory"),
                needs_root=True,
            ),
            because=("daemon-running",) if _daemon_was_killed(exam) else (),
        )
    ]


def _daemon_was_killed(exam: Examination) -> bool:
    unit = exam.unit(DAEMON)
    return unit is not None and unit.result == "oom-kill"


def _allocation(exam: Examination) -> list[Finding]:
    release = known(exam.facts.identity).release
    if isinstance(release, Unknown):
        return []  # box-release says so
    limit = cuda_allocation_limit(release.major, f"{release.minor}.{release.patch}")
    if limit is None:
        return []
    return [
        Finding(
            "memory-cuda-limit",
            Severity.WARN,
            f"On L4T {release} one CUDA allocation above about {gib(limit)} fails, which long"
            " texts and batches can meet.",
            (Evidence(RELEASE_PATH, str(release)),),
            by_hand(
                "Update to L4T R36.5 (JetPack 6.2.2), which mends it.",
                ("sudo", "apt-get", "update"),
                ("sudo", "apt-get", "dist-upgrade"),
                needs_root=True,
                needs_reboot=True,
            ),
        )
    ]


def _others(exam: Examination) -> list[Finding]:
    clients = known(exam.facts.gpu).clients
    if isinstance(clients, Unknown):
        # Only root may read it, and not every kernel has it; nothing hangs on it.
        text = f"Who else uses the GPU is not known: {clients.reason}."
        return [Finding("memory-gpu-others", Severity.INFO, text)]
    own = _own_pids(exam)
    desktop = DESKTOP if boots_into_desktop(exam) else frozenset()
    large = [
        client
        for client in clients
        if client.size >= CLIENT_SIZE and client.pid not in own and client.process not in desktop
    ]
    if not large:
        text = "No other process holds much of the GPU's memory."
        return [Finding("memory-gpu-others", Severity.OK, text)]
    names = ", ".join(f"{c.process} ({gib(c.size)})" for c in large[:4])
    memory = exam.facts.memory
    return [
        Finding(
            "memory-gpu-others",
            Severity.WARN,
            f"Other processes hold GPU memory and take turns with the engine: {names}.",
            tuple(Evidence(f"{NVMAP_CLIENTS} {c.pid}", f"{c.process} {gib(c.size)}") for c in large)
            + _total(memory),
            by_hand(
                "Stop them while the box is on air, if they are not needed.",
                *[("ps", "-fp", str(c.pid)) for c in large[:4]],
            ),
        )
    ]


def _refused(exam: Examination) -> list[Finding]:
    """The driver prints it on the stderr of whoever asked for the memory."""
    if not exam.installed:
        return []
    journal = read_journal(exam.host, DAEMON, _LOG_LINES)
    if isinstance(journal, Unknown):
        raise NotKnown(journal)
    lines = [line.strip()[:200] for line in journal.splitlines() if _NVMAP.search(line)]
    if not lines:
        return []
    times = "once" if len(lines) == 1 else f"{len(lines)} times"
    return [
        Finding(
            "memory-gpu-refused",
            Severity.WARN,
            f"The GPU's driver refused the engine memory {times} since boot.",
            (Evidence(f"journalctl -u {DAEMON}", lines[-1]),),
            by_hand(
                "See what else takes memory, then restart the daemon to give it back its share.",
                ("sudo", "ishowtts-ops", "doctor", "memory"),
                ("sudo", "systemctl", "restart", DAEMON),
                needs_root=True,
            ),
            because=("memory-cuda-limit", "memory-headroom", "memory-gpu-others", "box-desktop"),
        )
    ]


def _own_pids(exam: Examination) -> frozenset[int]:
    systemd = exam.facts.systemd
    if isinstance(systemd, Unknown) or isinstance(systemd.units, Unknown):
        return frozenset()
    unit = systemd.units.get(DAEMON)
    return frozenset({unit.pid}) if unit else frozenset()


def _total(memory: Memory | Unknown) -> tuple[Evidence, ...]:
    if isinstance(memory, Unknown):
        return ()
    return (Evidence(f"{MEMINFO} MemTotal", gib(memory.total)),)


CHECKS = (
    Check("memory-headroom", "memory", "Memory is left for the engine", _headroom),
    Check("memory-swap", "memory", "The box does not live on swap", _swap),
    Check("memory-oom", "memory", "Nothing was killed for lack of memory", _oom),
    Check(
        "memory-cuda-limit",
        "memory",
        "This L4T release has no limit on CUDA allocations",
        _allocation,
        jetson=True,
    ),
    Check("memory-gpu-refused", "memory", "The GPU got the memory it asked for", _refused),
    Check(
        "memory-gpu-others", "memory", "Nobody else holds the GPU's memory", _others, jetson=True
    ),
)
