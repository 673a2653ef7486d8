"""Stand-in for nvidia-smi as it answers on an Orin with JetPack 6. It is not NVIDIA's program.

Memory, utilisation and clocks are not available there: the name and the compute capability are all
that a query gets. A Thor's answers more; here it has its own name and capability and no more.
"""

from __future__ import annotations

import sys

from .box import Box

_GPUS = {"tegra234": ("Orin (nvgpu)", "8.7"), "tegra264": ("NVIDIA Thor", "11.0")}
USAGE = """\
nvidia-smi, a stand-in for NVIDIA's tool on a simulated Jetson (no NVIDIA software)
Usage: nvidia-smi [-L] [--query-gpu=FIELD,... --format=csv[,noheader][,nounits]]"""

_EDGE = "+" + "-" * 87 + "+"
_COLUMNS = "+" + "-" * 41 + "+" + "-" * 22 + "+" + "-" * 22 + "+"


def main(argv: list[str]) -> int:
    box = Box.here()
    box.marker()
    gpu, capability = _GPUS[box.soc]
    query = _value(argv, "--query-gpu")
    if query is not None:
        layout = _value(argv, "--format")
        if layout is None or not layout.startswith("csv"):
            print('"--format=" has to be csv with --query-gpu', file=sys.stderr)
            return 2
        fields = [field.strip() for field in query.split(",")]
        if "noheader" not in layout:
            print(", ".join(fields))
        known = {"name": gpu, "gpu_name": gpu, "compute_cap": capability}
        print(", ".join(known.get(field, "[N/A]") for field in fields))
        return 0
    if "-L" in argv:
        print(f"GPU 0: {gpu} (UUID: N/A)")
        return 0
    if argv:
        print(USAGE)
        return 0 if argv[0] in ("-h", "--help") else 2
    print(_table(gpu))
    return 0


def _value(argv: list[str], option: str) -> str | None:
    return next((w.split("=", 1)[1] for w in argv if w.startswith(f"{option}=")), None)


def _table(gpu: str) -> str:
    def row(*cells: str) -> str:
        widths = (41, 22, 22)
        return "|" + "|".join(c.ljust(w) for c, w in zip(cells, widths, strict=True)) + "|"

    def wide(text: str) -> str:
        return "|" + text.ljust(87) + "|"

    return "\n".join(
        [
            _EDGE,
            wide(
                " NVIDIA-SMI 540.4.0                Driver Version: 540.4.0      CUDA Version: 12.6"
            ),
            "|" + _COLUMNS[1:-1] + "|",
            row(
                " GPU  Name                 Persistence-M",
                " Bus-Id        Disp.A",
                " Volatile Uncorr. ECC",
            ),
            row(
                " Fan  Temp   Perf          Pwr:Usage/Cap",
                "         Memory-Usage",
                " GPU-Util  Compute M.",
            ),
            row("", "", "               MIG M."),
            "|" + _COLUMNS[1:-1].replace("-", "=") + "|",
            row(
                f"   0  {gpu:<30}N/A",
                " N/A              N/A",
                "                  N/A",
            ),
            row(
                " N/A   N/A  N/A               N/A /  N/A",
                " Not Supported",
                "     N/A          N/A",
            ),
            row("", "", "                  N/A"),
            _COLUMNS,
            "",
            _EDGE,
            wide(" Processes:"),
            wide("  GPU   GI   CI        PID   Type   Process name".ljust(76) + "GPU Memory"),
            wide("        ID   ID".ljust(76) + "Usage"),
            "|" + "=" * 87 + "|",
            wide("  No running processes found"),
            _EDGE,
        ]
    )
