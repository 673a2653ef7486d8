"""Where a release keeps its attributes; paths of the box without the leading slash."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """`devices` is the folder of platform devices, `gpu` the GPU's real folder."""

    devices: str
    gpu: str
    gpu_name: str
    gpu_links: tuple[str, ...]
    emc_cap: str
    emc_cap_none: int
    """What the cap file holds when nothing is capped: 0, or -1 for "the maximum rate"."""

    @property
    def devfreq(self) -> str:
        return f"{self.gpu}/devfreq/{self.gpu_name}"


_R35 = Layout(
    devices="sys/devices/platform",
    gpu="sys/devices/17000000.ga10b",
    gpu_name="17000000.ga10b",
    gpu_links=("sys/devices/gpu.0",),
    emc_cap="sys/kernel/nvpmodel_emc_cap/emc_iso_cap",
    emc_cap_none=0,
)
_R36 = Layout(
    devices="sys/devices/platform/bus@0",
    gpu="sys/devices/platform/bus@0/17000000.gpu",
    gpu_name="17000000.gpu",
    gpu_links=("sys/devices/platform/gpu.0", "sys/devices/platform/17000000.gpu"),
    emc_cap="sys/kernel/nvpmodel_clk_cap/emc",
    emc_cap_none=-1,
)


def layout_for(release_major: int) -> Layout:
    """R35's layout, or R36's for everything later: R39's on Orin is not documented."""
    return _R35 if release_major <= 35 else _R36
