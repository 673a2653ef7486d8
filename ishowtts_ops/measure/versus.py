"""This series against upstream's own code, in turns on one machine: `f5_tts.fast.compare`.

The comparison is a module of the patched tree and runs in the engine's own interpreter, one process
for each side. Here it is started, and what it wrote is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ishowtts_ops.errors import OpsError, Undetermined
from ishowtts_ops.host import Host
from ishowtts_ops.measure.workloads import Workload

MODULE = "f5_tts.fast.compare"
KIND, VERSION = "f5-comparison", 1
OURS = "ours"
OTHERS = ("upstream", "upstream-compiled")
PRESETS = ("full", "small")
LIMIT_S = 4 * 3600.0
"""A mixed workload of 20 passes takes upstream half an hour on a large GPU."""


@dataclass(frozen=True)
class Question:
    """What is to be compared.

    Attributes:
        others: which sides beside ours; see OTHERS.
        runs, warm_up: passes that count, and passes before.
        preset: full is F5TTS_v1_Base; small is for machines without a GPU.
        peak_tflops: what this device reaches; None lets it be measured.
        files: ckpt_file, vocab_file and vocoder_dir as real paths, for real weights.
    """

    workloads: tuple[Workload, ...]
    others: tuple[str, ...]
    runs: int
    warm_up: int
    nfe: int = 7
    cfg_strength: float = 2.0
    preset: str = "full"
    device: str = "auto"
    peak_tflops: float | None = None
    files: Mapping[str, str] | None = None

    def argv(self, folder: Path, upstream: Path) -> list[str]:
        """Options of the module; its files lie in `folder`."""
        works = [workload.to_compare(self.nfe) for workload in self.workloads]
        (folder / "work.json").write_text(json.dumps(works), encoding="utf-8")
        words = ["--upstream", str(upstream), "--work", str(folder / "work.json")]
        for side in (OURS, *self.others):
            words += ["--side", side]
        words += ["--runs", str(self.runs), "--warm-up", str(self.warm_up)]
        words += ["--preset", self.preset, "--device", self.device]
        words += ["--cfg-strength", str(self.cfg_strength), "--out", str(folder / "result.json")]
        if self.peak_tflops is not None:
            words += ["--peak-tflops", f"{self.peak_tflops:.1f}"]
        for name, path in (self.files or {}).items():
            words += [f"--{name.replace('_', '-')}", path]
        return words


def ask(
    host: Host,
    python: str,
    tree: Path,
    upstream: Path,
    folder: Path,
    question: Question,
    on_line: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Run it.

    Args:
        python: box path of the engine's interpreter.
        tree, upstream: real `src` folders of the patched and of an unpatched tree.
        folder: real path of an empty folder for its files.
        on_line: is told how far it is.

    Raises:
        Undetermined: it could not be run or gave no answer.
        OpsError: our own side failed.
    """
    argv = (python, "-m", MODULE, *question.argv(folder, upstream))
    env = {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    # `run` because it tells how far it is; nothing of the box is changed.
    done = host.run(argv, timeout=LIMIT_S, env=env, on_line=on_line)
    if done.timed_out:
        raise Undetermined(f"The comparison took more than {LIMIT_S / 3600:.0f} hours.")
    result = folder / "result.json"
    if not result.is_file():
        last = (done.output.strip().splitlines() or ["it said nothing"])[-1]
        raise Undetermined(
            f"The comparison gave no answer: {last}",
            "`ishowtts-ops patch status` says whether the series is applied.",
        )
    found = parse(result.read_text(encoding="utf-8"))
    if OURS in found["failed"]:
        raise OpsError(f"This series' own side failed, {found['failed'][OURS]}.")
    return found


def parse(text: str) -> dict[str, Any]:
    """Raises Undetermined where it is no comparison that this program knows."""
    try:
        body = json.loads(text)
        if (body["kind"], body["version"]) == (KIND, VERSION):
            return dict(body)
    except (ValueError, KeyError, TypeError):
        pass
    raise Undetermined("This is no comparison that this program can read.")


def sides(workload: Mapping[str, Any]) -> list[str]:
    """The sides that were measured, ours first."""
    return [name for name in (OURS, *OTHERS) if name in workload]


def failures(found: Mapping[str, Any]) -> Sequence[str]:
    """What failed, as sentences; a fidelity bound that is not kept among them."""
    lines = [f"{side} failed, {why}" for side, why in found["failed"].items()]
    for name, workload in found["workloads"].items():
        if workload.get("fidelity", {}).get("passed") is False:
            lines.append(f"{name}: the result is not within the bounds of fidelity")
    return lines
