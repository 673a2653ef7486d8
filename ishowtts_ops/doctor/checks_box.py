"""What box is this, and may we install on it?"""

from __future__ import annotations

from ishowtts_ops.doctor.examination import Examination
from ishowtts_ops.doctor.finding import (
    Check,
    Evidence,
    Finding,
    Remedy,
    Severity,
    by_hand,
    gib,
    known,
)
from ishowtts_ops.facts.gpu import NVMAP_CLIENTS, GpuClient
from ishowtts_ops.facts.identity import DEVICE_TREES, KNOWN_MAJORS, RELEASE_PATH
from ishowtts_ops.facts.modules import Module, module_for
from ishowtts_ops.facts.systemd import DISPLAY_MANAGER
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import BoxKind

_COMPATIBLE = f"{DEVICE_TREES[0]}/compatible"
_MODEL = f"{DEVICE_TREES[0]}/model"
DESKTOP = frozenset({"Xorg", "Xwayland", "gnome-shell", "mutter", "kwin", "lxpanel", "nautilus"})
"""Processes of a desktop session by the names nvmap shows."""
OLDEST_SYSTEMD = 245
"""JetPack 5's; what the units use is available from there on."""

_UPDATE = by_hand(
    "Update ishowtts-ops, and report the box's release and module if that does not help.",
    ("cat", RELEASE_PATH),
)


def _jetson(exam: Examination) -> list[Finding]:
    identity = known(exam.facts.identity)
    if identity.is_jetson:
        text = f"This is a {identity.name}."
        if exam.host.simulated:
            text = f"This is a simulated {identity.name}, no NVIDIA hardware."
        shown = ", ".join(identity.compatible) or "not there"
        return [Finding("box-jetson", Severity.OK, text, (Evidence(_COMPATIBLE, shown),))]
    evidence = (
        Evidence(_COMPATIBLE, ", ".join(identity.compatible) or "not there"),
        Evidence(RELEASE_PATH, "not there"),
    )
    remedy = by_hand("Try everything on a simulated Jetson instead.", ("ishowtts-ops", "demo"))
    return [
        Finding("box-jetson", Severity.ERROR, "This machine is not a Jetson.", evidence, remedy)
    ]


def _module(exam: Examination) -> list[Finding]:
    identity = known(exam.facts.identity)
    if isinstance(identity.module, Unknown):
        return [
            Finding(
                "box-module",
                Severity.WARN,
                "This Jetson module is not known here, so its clock limits cannot be judged.",
                (Evidence(_COMPATIBLE, ", ".join(identity.compatible) or "not there"),),
                _UPDATE,
            )
        ]
    if identity.ram_fits is False and not isinstance(identity.ram_kib, Unknown):
        ram = f"{identity.ram_kib / (1 << 20):.1f} GiB"
        return [
            Finding(
                "box-module",
                Severity.WARN,
                f"The box calls itself {identity.name} and has {ram} of memory, so one of the two"
                " is wrong.",
                (Evidence(_COMPATIBLE, identity.compatible[0]), Evidence("/proc/meminfo", ram)),
                by_hand(
                    "Read the part number on the module; the board may have been flashed with"
                    " another module's device tree.",
                    ("cat", _MODEL),
                ),
            )
        ]
    if _named_otherwise(identity.module, identity.model):
        return [
            Finding(
                "box-module",
                Severity.INFO,
                f"The box calls itself “{identity.model}”, and is a {identity.name}; the name is"
                " just a label.",
                (
                    Evidence(_MODEL, str(identity.model)),
                    Evidence(_COMPATIBLE, identity.compatible[0]),
                ),
            )
        ]
    return []


def _named_otherwise(module: Module, model: Maybe[str]) -> bool:
    """Does the model string name a module of another family? In one family, as AGX Orin 32 GB and
    64 GB are, boards often carry the same."""
    named = None if isinstance(model, Unknown) else module_for((), model)
    return named is not None and _family(named) != _family(module)


def _family(module: Module) -> str:
    """One of agx-orin, orin-nx, orin-nano."""
    return "-".join(module.key.split("-")[:2])


def _release(exam: Examination) -> list[Finding]:
    identity = known(exam.facts.identity)
    release = identity.release
    if isinstance(release, Unknown):
        text = f"Which L4T release this is cannot be told: {release.reason}."
        unread = (Evidence(RELEASE_PATH, release.reason),)
        return [Finding("box-release", Severity.WARN, text, unread, _UPDATE)]
    evidence = (Evidence(RELEASE_PATH, str(release)),)
    if not release.known:
        known_ones = ", ".join(f"R{major}" for major in KNOWN_MAJORS)
        text = f"L4T {release} is not known here ({known_ones} are), so some checks may be wrong."
        return [Finding("box-release", Severity.WARN, text, evidence, _UPDATE)]
    if isinstance(identity.jetpack, Unknown):
        text = f"L4T {release} belongs to a JetPack that is not in the table."
        return [Finding("box-release", Severity.INFO, text, evidence)]
    text = f"L4T {release}, JetPack {identity.jetpack}."
    return [Finding("box-release", Severity.OK, text, evidence)]


def _systemd(exam: Examination) -> list[Finding]:
    host = exam.host
    if host.kind is BoxKind.OFFLINE:
        remedy = by_hand("Start the box and run doctor there for the rest.")
        text = (
            f"The box in {host.root} is not running: only its files were examined, not its"
            " hardware, its engine or its services."
        )
        return [Finding("box-systemd", Severity.UNKNOWN, text, (), remedy)]
    systemd = known(exam.facts.systemd)
    if isinstance(systemd.units, Unknown) or isinstance(systemd.version, Unknown):
        lost = systemd.units if isinstance(systemd.units, Unknown) else systemd.version
        assert isinstance(lost, Unknown)
        text = f"systemd does not answer, so nothing here is supervised: {lost.reason}."
        evidence = (Evidence("systemctl", lost.reason),)
        remedy = by_hand(
            "Boot the box with systemd as its first process.", ("ps", "-p", "1", "-o", "comm=")
        )
        return [Finding("box-systemd", Severity.ERROR, text, evidence, remedy)]
    evidence = (Evidence("systemctl --version", str(systemd.version)),)
    if systemd.version >= OLDEST_SYSTEMD:
        text = f"systemd {systemd.version} runs the box."
        return [Finding("box-systemd", Severity.OK, text, evidence)]
    text = f"systemd {systemd.version} is older than {OLDEST_SYSTEMD}, which the units need."
    remedy = by_hand("Update to JetPack 5 or later.")
    return [Finding("box-systemd", Severity.ERROR, text, evidence, remedy)]


def _root(exam: Examination) -> list[Finding]:
    if not exam.changes_follow or exam.host.is_root():
        return []
    remedy = Remedy("Run the same command with sudo.", (("sudo", "ishowtts-ops", "install"),))
    text = "Installing needs root: it writes below /etc and /var/lib and sets clocks."
    return [Finding("box-root", Severity.ERROR, text, (), remedy)]


def _desktop(exam: Examination) -> list[Finding]:
    systemd = known(exam.facts.systemd)
    evidence: tuple[Evidence, ...] = (
        Evidence("systemctl get-default", known(systemd.default_target)),
        Evidence(DISPLAY_MANAGER, systemd.display_manager or "not there"),
    )
    evidence += tuple(
        Evidence(f"{NVMAP_CLIENTS} {client.pid}", f"{client.process} {gib(client.size)}")
        for client in desktop_clients(exam)
    )
    if not boots_into_desktop(exam):
        return [Finding("box-desktop", Severity.OK, "The box boots without a desktop.", evidence)]
    return [
        Finding(
            "box-desktop",
            Severity.WARN,
            "The box boots into a desktop, which takes up to 865 MB of memory and shares the GPU.",
            evidence,
            by_hand(
                "Boot without it and restart; do not use `systemctl isolate`, which makes"
                " nvpmodel drop the clock lock.",
                ("sudo", "systemctl", "set-default", "multi-user.target"),
                needs_root=True,
                needs_reboot=True,
            ),
        )
    ]


def boots_into_desktop(exam: Examination) -> bool:
    """Is a desktop known to start at boot? graphical.target alone is systemd's own default."""
    systemd = exam.facts.systemd
    if isinstance(systemd, Unknown) or systemd.default_target != "graphical.target":
        return False
    return systemd.display_manager is not None or bool(desktop_clients(exam))


def desktop_clients(exam: Examination) -> tuple[GpuClient, ...]:
    """Processes of a desktop that hold GPU memory, as far as that may be read."""
    gpu = exam.facts.gpu
    if isinstance(gpu, Unknown) or isinstance(gpu.clients, Unknown):
        return ()
    return tuple(client for client in gpu.clients if client.process in DESKTOP)


CHECKS = (
    Check("box-jetson", "box", "This machine is a Jetson", _jetson, blocks_install=True),
    Check("box-module", "box", "The module is known and fits its memory", _module, jetson=True),
    Check("box-release", "box", "The L4T release is known", _release, jetson=True),
    Check(
        "box-systemd", "box", "systemd runs the box", _systemd, blocks_install=True, limit_s=16.0
    ),
    Check("box-root", "box", "Install may change the box", _root, blocks_install=True),
    Check("box-desktop", "box", "No desktop takes memory", _desktop, jetson=True),
)
