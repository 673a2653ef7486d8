"""Which module is this, and what may it do: the table of Jetson modules and their power modes.

The power modes come from `data/nvpmodel-modes.tsv`; the modules' limits and part numbers from field
readings of Orin boxes. What no source gives is None, never a guess.

Units are those of sysfs: CPU in kHz, GPU and EMC in Hz, memory in GiB.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

UNCAPPED = -1
"""A cap of nvpmodel that leaves the module's own limit in place."""

_PART = re.compile(r"p(?:3701|3767|3834)-\d{4}")
_COLUMNS = (
    "conf_file",
    "module",
    "skus",
    "super",
    "id",
    "name",
    "default",
    "cores_online",
    "cpu_max_khz",
    "cpu_max_khz_r35",
    "gpu_max_hz",
    "emc_max_hz",
    "tpc_pg_mask",
    "optional",
    "note",
)


@dataclass(frozen=True)
class Module:
    """One Jetson module in one of its software shapes: "super" is a shape of its own, because it
    has other caps and another nvpmodel file."""

    key: str
    name: str
    skus: tuple[str, ...]
    compatibles: tuple[str, ...]
    conf_file: str
    is_super: bool
    ram_gib: int | None
    cpu_cores: int
    max_cpu_khz: int | None
    max_gpu_hz: int | None
    max_emc_hz: int | None

    @property
    def default_mode(self) -> PowerMode:
        """The mode of the module's own nvpmodel file that a fresh box boots into."""
        return next(mode for mode in modes_for(self) if mode.default)


@dataclass(frozen=True)
class PowerMode:
    """One line of the mode table. `UNCAPPED` (-1) is "no cap", None is "not known"."""

    conf_file: str
    module: str
    skus: tuple[str, ...]
    is_super: bool
    id: int
    name: str
    default: bool
    cores_online: int
    cpu_max_khz: int | None
    cpu_max_khz_r35: int | None
    gpu_max_hz: int | None
    emc_max_hz: int | None
    tpc_pg_mask: int | None
    optional: bool
    note: str

    def cpu_cap_khz(self, release_major: int) -> int | None:
        """The CPU cap of this mode's file in that L4T release (35, 36 …)."""
        if release_major <= 35 and self.cpu_max_khz_r35 is not None:
            return self.cpu_max_khz_r35
        return self.cpu_max_khz


def parse_modes(text: str) -> tuple[PowerMode, ...]:
    """Parse the mode table.

    Raises:
        ValueError: a line that does not fit, with its number.
    """
    modes: list[PowerMode] = []
    header_seen = False
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        cells = line.split("\t")
        if not header_seen:
            if tuple(cells) != _COLUMNS:
                raise ValueError(f"line {number}: the columns are not {', '.join(_COLUMNS)}")
            header_seen = True
            continue
        if len(cells) != len(_COLUMNS):
            raise ValueError(f"line {number}: {len(cells)} cells instead of {len(_COLUMNS)}")
        try:
            modes.append(_mode(dict(zip(_COLUMNS, cells, strict=True))))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from None
    return tuple(modes)


def _mode(cell: dict[str, str]) -> PowerMode:
    return PowerMode(
        conf_file=cell["conf_file"],
        module=cell["module"],
        skus=tuple(cell["skus"].split(",")),
        is_super=_flag(cell["super"]),
        id=int(cell["id"]),
        name=cell["name"],
        default=_flag(cell["default"]),
        cores_online=int(cell["cores_online"]),
        cpu_max_khz=_maybe(cell["cpu_max_khz"]),
        cpu_max_khz_r35=_maybe(cell["cpu_max_khz_r35"]),
        gpu_max_hz=_maybe(cell["gpu_max_hz"]),
        emc_max_hz=_maybe(cell["emc_max_hz"]),
        tpc_pg_mask=_maybe(cell["tpc_pg_mask"]),
        optional=_flag(cell["optional"]),
        note=cell["note"],
    )


def _flag(text: str) -> bool:
    if text not in ("yes", "no"):
        raise ValueError(f"{text!r} is neither yes nor no")
    return text == "yes"


def _maybe(text: str) -> int | None:
    return int(text) if text else None


def _agx(*skus: str) -> tuple[str, ...]:
    return tuple(f"nvidia,p3737-0000+{sku}" for sku in skus)


def _small(suffix: str, *skus: str) -> tuple[str, ...]:
    return tuple(f"nvidia,p3768-0000+{sku}{suffix}" for sku in skus)


ALL_MODULES: tuple[Module, ...] = (
    Module(
        "agx-orin-64",
        "Jetson AGX Orin 64GB",
        ("p3701-0005", "p3701-0000"),
        _agx("p3701-0005", "p3701-0000"),
        "nvpmodel_p3701_0000.conf",
        False,
        64,
        12,
        2201600,
        1300500000,
        3199000000,
    ),
    Module(
        "agx-orin-32",
        "Jetson AGX Orin 32GB",
        ("p3701-0004",),
        _agx("p3701-0004"),
        "nvpmodel_p3701_0004.conf",
        False,
        32,
        8,
        2188800,
        930750000,
        3199000000,
    ),
    Module(
        "orin-nx-16",
        "Jetson Orin NX 16GB",
        ("p3767-0000",),
        _small("", "p3767-0000"),
        "nvpmodel_p3767_0000.conf",
        False,
        16,
        8,
        1984000,
        918000000,
        None,
    ),
    Module(
        "orin-nx-16-super",
        "Jetson Orin NX 16GB Super",
        ("p3767-0000",),
        _small("-super", "p3767-0000"),
        "nvpmodel_p3767_0000_super.conf",
        True,
        16,
        8,
        1984000,
        1173000000,
        None,
    ),
    Module(
        "orin-nx-8",
        "Jetson Orin NX 8GB",
        ("p3767-0001",),
        _small("", "p3767-0001"),
        "nvpmodel_p3767_0001.conf",
        False,
        8,
        6,
        1984000,
        765000000,
        None,
    ),
    Module(
        "orin-nx-8-super",
        "Jetson Orin NX 8GB Super",
        ("p3767-0001",),
        _small("-super", "p3767-0001"),
        "nvpmodel_p3767_0001_super.conf",
        True,
        8,
        6,
        1984000,
        1173000000,
        None,
    ),
    Module(
        "orin-nano-8",
        "Jetson Orin Nano 8GB",
        ("p3767-0005", "p3767-0003"),
        _small("", "p3767-0005", "p3767-0003"),
        "nvpmodel_p3767_0003.conf",
        False,
        8,
        6,
        1510400,
        624750000,
        2133000000,
    ),
    Module(
        "orin-nano-8-super",
        "Jetson Orin Nano 8GB Super",
        ("p3767-0005", "p3767-0003"),
        _small("-super", "p3767-0005", "p3767-0003"),
        "nvpmodel_p3767_0003_super.conf",
        True,
        8,
        6,
        1728000,
        1020000000,
        3199000000,
    ),
    Module(
        "orin-nano-4",
        "Jetson Orin Nano 4GB",
        ("p3767-0004",),
        _small("", "p3767-0004"),
        "nvpmodel_p3767_0004.conf",
        False,
        4,
        6,
        1510400,
        624750000,
        None,
    ),
    Module(
        "orin-nano-4-super",
        "Jetson Orin Nano 4GB Super",
        ("p3767-0004",),
        _small("-super", "p3767-0004"),
        "nvpmodel_p3767_0004_super.conf",
        True,
        4,
        6,
        1728000,
        1020000000,
        None,
    ),
    # The string is upstream Linux's (tegra264-p4071-0000+p3834-0008.dts). The GPU's rate is what
    # boxes report of gpu-gpc-0 when it is locked in MAXN.
    Module(
        "agx-thor-t5000",
        "Jetson AGX Thor T5000",
        ("p3834-0008",),
        ("nvidia,p4071-0000+p3834-0008",),
        "nvpmodel_p3834_0008.conf",
        False,
        128,
        14,
        2601000,
        1575000000,
        4266000000,
    ),
)


@cache
def all_modes() -> tuple[PowerMode, ...]:
    """Every mode of every module, in the table's order."""
    table = resources.files("ishowtts_ops.facts") / "data" / "nvpmodel-modes.tsv"
    return parse_modes(table.read_text(encoding="utf-8"))


def module_by_key(key: str) -> Module | None:
    return next((module for module in ALL_MODULES if module.key == key), None)


def module_for(compatible: Sequence[str], model: str) -> Module | None:
    """The module a box says it has.

    Args:
        compatible: the strings of `/proc/device-tree/compatible`, NULs removed.
        model: `/proc/device-tree/model`. Looked at only when `compatible` names no part, because
            the model string is wrong on some boxes.

    Returns:
        None for anything not in the table, a machine that is no Jetson included.
    """
    for text in compatible:
        for part in _PART.findall(text):
            found = _by_part(part, text.rstrip("\0").endswith("-super"))
            if found is not None:
                return found
    for part in _PART.findall(model):
        found = _by_part(part, model.rstrip("\0 ").lower().endswith("super"))
        if found is not None:
            return found
    return _by_model(model.lower())


def _by_part(part: str, is_super: bool) -> Module | None:
    candidates = [module for module in ALL_MODULES if part in module.skus]
    exact = [module for module in candidates if module.is_super == is_super]
    return next(iter(exact or candidates), None)


def _by_model(model: str) -> Module | None:
    """The developer kits' own names; "Orin NX" alone says nothing about its size."""
    if "agx orin developer kit" in model:
        return module_by_key("agx-orin-64")
    if "orin nano" in model and "developer kit" in model:
        return module_by_key("orin-nano-8-super" if "super" in model else "orin-nano-8")
    return None


def modes_for(module: Module, conf_file: str | None = None) -> tuple[PowerMode, ...]:
    """The known modes of a module.

    Args:
        conf_file: file name or path of the nvpmodel file in use; a super module may be run with the
            other file of its part. None: the module's own.

    Returns:
        In the order of ids, optional modes included; empty when the file is not one of this part's.
    """
    wanted = (conf_file or module.conf_file).rsplit("/", 1)[-1]
    found: Iterable[PowerMode] = (
        mode
        for mode in all_modes()
        if mode.conf_file == wanted and set(mode.skus) & set(module.skus)
    )
    return tuple(sorted(found, key=lambda mode: mode.id))
