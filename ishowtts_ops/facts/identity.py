"""What is this box: L4T release, JetPack, model, module, memory.

Sources of the facts: /etc/nv_tegra_release, the device tree, /proc/meminfo. The model string is
wrong on some boxes, so the module is found from `compatible` and checked against the memory.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ishowtts_ops.facts import sysfs
from ishowtts_ops.facts.modules import Module, module_for
from ishowtts_ops.facts.value import Maybe, Unknown
from ishowtts_ops.host import BoxKind, Host

RELEASE_PATH = "/etc/nv_tegra_release"
DEVICE_TREES = ("/sys/firmware/devicetree/base", "/proc/device-tree")
KNOWN_MAJORS = (35, 36, 38, 39)

_RELEASE = re.compile(
    r"^#\s*R([0-9]{1,3})\s*\(release\)\s*,\s*REVISION:\s*([0-9]{1,3})(?:\.([0-9]{1,3}))?\s*(?:,|$)",
    re.MULTILINE,
)
_FIELD = r"\b{}:\s*([^,\n]*)"
_JETPACK = {
    (35, 3, 1): "5.1.1",
    (35, 4, 1): "5.1.2",
    (35, 5, 0): "5.1.3",
    (36, 3, 0): "6.0",
    (36, 4, 0): "6.1",
    (36, 4, 3): "6.2",
    (36, 4, 4): "6.2.1",
    (36, 4, 7): "6.2.1",
    (36, 5, 0): "6.2.2",
    (38, 2, 0): "7.0",
    (38, 4, 0): "7.1",
    (39, 2, 0): "7.2",
    (39, 2, 1): "7.2.1",
    (39, 2, 2): "7.2.2",
}


@dataclass(frozen=True)
class Release:
    """An L4T release, R36.4.3 for instance: major 36, minor 4, patch 3."""

    major: int
    minor: int
    patch: int
    board: str = ""
    date: str = ""

    def __str__(self) -> str:
        return f"R{self.major}.{self.minor}" + (f".{self.patch}" if self.patch else "")

    @property
    def known(self) -> bool:
        """Is the major release one whose formats this program knows?"""
        return self.major in KNOWN_MAJORS


@dataclass(frozen=True)
class Identity:
    """What a box is.

    Attributes:
        compatible: the device tree's strings, most specific first; empty when there are none.
        ram_kib: /proc/meminfo's MemTotal, which is less than the module's memory (carve-outs).
    """

    release: Maybe[Release]
    jetpack: Maybe[str]
    model: Maybe[str]
    compatible: tuple[str, ...]
    module: Maybe[Module]
    ram_kib: Maybe[int]

    @property
    def is_jetson(self) -> bool:
        """True for any Jetson, also one that is not in our table. An offline root file system has
        no device tree; it is known by its release file."""
        tegra = any("nvidia,tegra" in text or "+p3" in text for text in self.compatible)
        return tegra or isinstance(self.module, Module) or isinstance(self.release, Release)

    @property
    def ram_fits(self) -> Maybe[bool]:
        """Does the memory agree with the module? Sizes differ by a factor of two, and carve-outs
        take less than a quarter (field readings: 62,841 MiB of 64 GiB, 7,620 MiB of 8 GiB)."""
        if isinstance(self.module, Unknown):
            return self.module
        if isinstance(self.ram_kib, Unknown):
            return self.ram_kib
        if self.module.ram_gib is None:
            return Unknown(f"how much memory {self.module.name} has is not in the table")
        return 0.7 <= self.ram_kib / (self.module.ram_gib << 20) <= 1.0

    @property
    def name(self) -> str:
        """The best name there is for the box."""
        if isinstance(self.module, Module):
            return self.module.name
        return self.model if isinstance(self.model, str) else "unknown box"


def parse_release(text: str) -> Maybe[Release]:
    """The text of /etc/nv_tegra_release.

    Returns:
        Unknown for anything that does not say `R.. (release), REVISION: ..`. A release that is not
        in our tables is a Release whose `known` is False.
    """
    match = _RELEASE.search(text)
    if match is None:
        return Unknown(f"{RELEASE_PATH} does not name an L4T release")
    line = text[match.start() :].split("\n", 1)[0]
    board = re.search(_FIELD.format("BOARD"), line)
    date = re.search(_FIELD.format("DATE"), line)
    return Release(
        int(match[1]),
        int(match[2]),
        int(match[3] or 0),
        board[1].strip() if board else "",
        date[1].strip() if date else "",
    )


def jetpack_of(release: Maybe[Release]) -> Maybe[str]:
    """The JetPack version that has this L4T release."""
    if isinstance(release, Unknown):
        return release
    found = _JETPACK.get((release.major, release.minor, release.patch))
    return found or Unknown(f"{release} is not in the table of JetPack releases")


def parse_mem_total(meminfo: str) -> Maybe[int]:
    """MemTotal in KiB."""
    match = re.search(r"^MemTotal:\s+([0-9]{1,15}) kB$", meminfo, re.MULTILINE)
    return int(match[1]) if match else Unknown("/proc/meminfo has no MemTotal")


def parse_strings(data: bytes) -> tuple[str, ...]:
    """A device tree property's NUL-terminated strings."""
    parts = data.decode("utf-8", errors="replace").split("\0")
    return tuple(part.strip() for part in parts if part.strip())


def read(host: Host) -> Identity:
    """Look at the box."""
    release = _release(host)
    compatible = _property(host, "compatible")
    model = _property(host, "model")
    strings = () if isinstance(compatible, Unknown) else compatible
    model_name: Maybe[str] = model if isinstance(model, Unknown) else model[0]
    return Identity(
        release,
        jetpack_of(release),
        model_name,
        strings,
        _module(strings, model_name),
        _ram(host),
    )


def _release(host: Host) -> Maybe[Release]:
    found = sysfs.text(host, RELEASE_PATH)
    return found if isinstance(found, Unknown) else parse_release(found)


def _property(host: Host, name: str) -> Maybe[tuple[str, ...]]:
    reason = ""
    for tree in DEVICE_TREES:
        answer = sysfs.raw(host, f"{tree}/{name}")
        if not isinstance(answer, Unknown):
            strings = parse_strings(answer)
            return strings or Unknown(f"{tree}/{name} is empty")
        reason = answer.reason
    return Unknown(f"the device tree has no `{name}`: {reason}")


def _module(compatible: tuple[str, ...], model: Maybe[str]) -> Maybe[Module]:
    found = module_for(compatible, "" if isinstance(model, Unknown) else model)
    if found is not None:
        return found
    if isinstance(model, Unknown) and not compatible:
        return model
    shown = model if isinstance(model, str) else compatible[0]
    return Unknown(f"{shown!r} is not in the table of modules")


def _ram(host: Host) -> Maybe[int]:
    if host.kind is BoxKind.LIVE and host.simulated:
        return Unknown("a simulation mounted over this machine has no memory of its own")
    found = sysfs.text(host, "/proc/meminfo")
    return found if isinstance(found, Unknown) else parse_mem_total(found)
