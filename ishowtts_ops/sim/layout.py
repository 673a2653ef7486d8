"""Where a release keeps its attributes; paths of the box without the leading slash."""

from __future__ import annotations

from dataclasses import dataclass

from ishowtts_ops.sim.tools.box import THOR_GPU


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
    video_name: str = ""
    """The devfreq device of the GPU's video engines, where they have one of their own."""

    @property
    def devfreq(self) -> str:
        return self.devfreq_of(self.gpu_name)

    def devfreq_of(self, name: str) -> str:
        """The real folder of one of the GPU's devfreq devices."""
        return f"{self.gpu}/{f'{name}/' if self.video_name else ''}devfreq/{name}"


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

THOR = Layout(
    devices=_R36.devices,
    gpu=THOR_GPU.lstrip("/"),
    gpu_name="gpu-gpc-0",
    gpu_links=(),
    # Placeholders: no source says where Thor's power modes cap the memory clock.
    emc_cap=_R36.emc_cap,
    emc_cap_none=_R36.emc_cap_none,
    video_name="gpu-nvd-0",
)
"""AGX Thor: the GPU is a PCI device with two devfreq devices, as its boxes report."""


def layout_for(release_major: int) -> Layout:
    """Orin's: R35's layout, or R36's for everything later, since R39's is not documented."""
    return _R35 if release_major <= 35 else _R36
