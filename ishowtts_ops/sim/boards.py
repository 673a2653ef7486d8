"""The boards that can be simulated: a module, a release, and what its boxes print."""

from __future__ import annotations

from dataclasses import dataclass

from ishowtts_ops.errors import UsageError
from ishowtts_ops.facts.modules import ALL_MODULES, Module, module_by_key
from ishowtts_ops.sim.layout import THOR, Layout, layout_for


@dataclass(frozen=True)
class Release:
    """An L4T release. The first line of `/etc/nv_tegra_release` is made of these."""

    l4t: str
    gcid: int
    date: str
    ubuntu: str

    @property
    def major(self) -> int:
        return int(self.l4t.split(".")[0])

    @property
    def first_line(self) -> str:
        revision = self.l4t.split(".", 1)[1]
        board = "t186ref" if self.major <= 35 else "generic"
        return (
            f"# R{self.major} (release), REVISION: {revision}, GCID: {self.gcid}, BOARD: {board}, "
            f"EABI: aarch64, DATE: {self.date}"
        )


# Number and date of 36.4.0 and 36.4.7 are from memory, not from a captured file; only the release
# and the revision of those two lines should be relied upon.
RELEASES = {
    release.l4t: release
    for release in (
        Release("35.3.1", 32790763, "Wed Mar 15 07:54:12 UTC 2023", "20.04"),
        Release("36.4.0", 37537400, "Fri Sep 13 04:36:44 UTC 2024", "22.04"),
        Release("36.4.3", 38968081, "Wed Jan  8 01:49:37 UTC 2025", "22.04"),
        Release("36.4.4", 41062509, "Mon Jun 16 16:07:13 UTC 2025", "22.04"),
        Release("36.4.7", 42132812, "Thu Sep 18 22:54:44 UTC 2025", "22.04"),
        Release("36.5.0", 43688277, "Fri Jan 16 03:50:45 UTC 2026", "22.04"),
        Release("39.2.1", 46758480, "Fri Aug  7 05:54:22 AM UTC 2026", "24.04"),
    )
}


@dataclass(frozen=True)
class Rail:
    """A power rail on channel `channel` of the INA3221 at I2C address `address`."""

    address: str
    channel: int
    label: str
    millivolt: int
    milliwatt: int


@dataclass(frozen=True)
class Board:
    """One board to simulate."""

    name: str
    module: Module
    release: Release
    model: str
    ram_mib: int
    rails: tuple[Rail, ...]
    dla: bool
    """Does `jetson_clocks --show` list the DLA and PVA engines?"""

    @property
    def thor(self) -> bool:
        return _is_thor(self.module)

    @property
    def layout(self) -> Layout:
        return THOR if self.thor else layout_for(self.release.major)

    # No source gives these for every module; the simulator needs a number all the same.
    @property
    def max_cpu_khz(self) -> int:
        return self.module.max_cpu_khz or 1510400

    @property
    def max_gpu_hz(self) -> int:
        return self.module.max_gpu_hz or 624750000

    @property
    def max_emc_hz(self) -> int:
        """Not documented for the NX and Nano 4 GB: the plain Nano has 2133 MHz, the rest 3199."""
        if self.module.max_emc_hz is not None:
            return self.module.max_emc_hz
        return 2133000000 if self.module.key == "orin-nano-4" else 3199000000


_AGX_RAILS = (
    Rail("0040", 1, "VDD_GPU_SOC", 19080, 2399),
    Rail("0040", 2, "VDD_CPU_CV", 19080, 400),
    Rail("0040", 3, "VIN_SYS_5V0", 5040, 4032),
    Rail("0041", 2, "VDDQ_VDD2_1V8AO", 19080, 301),
)
_SMALL_RAILS = (
    Rail("0040", 1, "VDD_IN", 5040, 4654),
    Rail("0040", 2, "VDD_CPU_GPU_CV", 5040, 560),
    Rail("0040", 3, "VDD_SOC", 5040, 1484),
)
# Labels as Thor boxes report them; address, channels and readings are placeholders.
_THOR_RAILS = (
    Rail("0040", 1, "VDD_GPU", 19864, 2400),
    Rail("0040", 2, "VDD_CPU_SOC_MSS", 19856, 5957),
)
# Thor's is the MemTotal that a box reports.
_RAM_MIB = {128: 125806, 64: 62841, 32: 30697, 16: 15655, 8: 7620, 4: 3620}
_ALIASES = {
    "orin-nano-super": "orin-nano-8-super",
    "orin-nano": "orin-nano-8",
    "agx-orin": "agx-orin-64",
}
_OLDEST_SUPER = (36, 4, 3)
_OLDEST_THOR = (38,)


def _is_thor(module: Module) -> bool:
    return module.key.startswith("agx-thor")


def _default_release(module: Module) -> str:
    if _is_thor(module):
        return "39.2.1"
    return "36.4.3" if module.is_super else "36.4.0"


def runs_on(module: Module, l4t: str) -> bool:
    """Was that L4T release made for the module in this shape?"""
    oldest = _OLDEST_THOR if _is_thor(module) else _OLDEST_SUPER if module.is_super else ()
    return tuple(map(int, l4t.split("."))) >= oldest


def _model(module: Module) -> str:
    if _is_thor(module):
        return "NVIDIA Jetson AGX Thor Developer Kit"
    if module.key.startswith("agx-orin"):
        return "NVIDIA Jetson AGX Orin Developer Kit"
    kit = "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"
    if "nano" in module.key:
        kit = "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit"
    return f"{kit} Super" if module.is_super else kit


def simulated_modules() -> tuple[Module, ...]:
    """Every module that can be simulated: those whose device tree strings are known."""
    return tuple(module for module in ALL_MODULES if module.compatibles)


def find_board(name: str) -> Board:
    """The board called `MODULE` or `MODULE@L4T`, as "agx-orin-64" or "orin-nx-16@35.3.1".

    "orin-nano-super", "orin-nano" and "agx-orin" are short names of the usual ones.

    Raises:
        UsageError: there is no such module or release, or the two do not go together.
    """
    short, _, l4t = name.partition("@")
    module = module_by_key(_ALIASES.get(short, short))
    if module is None or not module.compatibles:
        known = ", ".join((*_ALIASES, *(module.key for module in simulated_modules())))
        raise UsageError(f"No board {short!r} can be simulated.", f"These can: {known}.")
    release = RELEASES.get(l4t or _default_release(module))
    if release is None:
        raise UsageError(f"Release {l4t!r} is not known.", f"These are: {', '.join(RELEASES)}.")
    if not runs_on(module, release.l4t):
        came = "Thor came with L4T 38" if _is_thor(module) else "Super modes came with L4T 36.4.3"
        later = "39.2.1" if _is_thor(module) else "that or a later one"
        raise UsageError(
            f"{module.name} does not run on L4T {release.l4t}.", f"{came}: take {later}."
        )
    agx = module.key.startswith("agx")
    return Board(
        name=name,
        module=module,
        release=release,
        model=_model(module),
        ram_mib=_RAM_MIB[module.ram_gib or 8],
        rails=_THOR_RAILS if _is_thor(module) else _AGX_RAILS if agx else _SMALL_RAILS,
        dla=agx and not _is_thor(module),
    )
