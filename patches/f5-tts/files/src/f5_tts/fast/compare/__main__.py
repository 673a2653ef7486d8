"""`python -m f5_tts.fast.compare --upstream UNPATCHED/src`: see the package.

    --workload M [--workload S ...]   S, M, L, R3, X, mixed; or --work FILE with works as JSON
    --side ours --side upstream --side upstream-compiled
    --runs 20 --warm-up 3 --preset full|small --device auto|cpu|cuda:0 --out RESULT.json

Prints one JSON document (to --out, or to stdout) and says on stderr how far it is. Exit 1 where
this series' own side failed; another side that fails is named in the document.
"""

from __future__ import annotations

import argparse
import json
import pickle
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from f5_tts.fast.compare import figures
from f5_tts.fast.compare.sides import Side, SideFailed
from f5_tts.fast.compare.work import SEED, Work, from_json, named
from f5_tts.fast.compare.worker import SIDES

KIND = "f5-comparison"
VERSION = 1
PASSES_A_TURN = 5
PIECES = 2
LOAD_LIMIT_S = 900.0
TURN_LIMIT_S = 3600.0


def say(words: str) -> None:
    sys.stderr.write(f"{words}\n")
    sys.stderr.flush()


class Comparison:
    """Sides that are loaded, and what was found out so far."""

    def __init__(self, chosen: argparse.Namespace, folder: Path) -> None:
        self._folder = folder
        self._chosen = chosen
        self.failed: dict[str, str] = {}
        settings = {
            "preset": chosen.preset,
            "device": chosen.device,
            "ckpt_file": chosen.ckpt_file,
            "vocab_file": chosen.vocab_file,
            "vocoder_dir": chosen.vocoder_dir,
            "cfg_strength": chosen.cfg_strength,
            "cache_dir": None,
        }
        self.sides = {
            name: Side(
                name, settings, None if name == "ours" else chosen.upstream, folder / f"{name}.log"
            )
            for name in chosen.side
        }
        self.about: dict[str, Any] = {}
        self.peak = 0.0
        self._last: dict[str, Any] = {}

    def load(self) -> None:
        """All at once: nothing is measured yet."""
        for name in list(self.sides):
            self._try(name, "loading", lambda side: side.answer(LOAD_LIMIT_S))
            if name in self.sides:
                self.about[name] = self._last
                say(f"{name}: loaded in {self._last['load_s']} s")
        if self._chosen.peak_tflops:
            self.peak = self._chosen.peak_tflops
        elif "ours" in self.sides:
            self.peak = float(self.sides["ours"].ask("peak")["tflop_per_s"])

    def _try(self, name: str, what: str, do: Callable[[Side], dict[str, Any]]) -> bool:
        """Let a side do something; where it fails it is left out from here on."""
        try:
            self._last = do(self.sides[name])
        except SideFailed as error:
            self.failed[name] = f"{what}: {error}"
            say(f"{name} failed, {what}: {error}")
            self.sides.pop(name).end()
            return False
        return True

    @staticmethod
    def _asking(do: str, **body: Any) -> Callable[[Side], dict[str, Any]]:
        return lambda side: side.ask(do, TURN_LIMIT_S, **body)

    def run(self, work: Work) -> dict[str, Any]:
        """One workload, all sides in turns."""
        body = work.to_json()
        for side in self.sides.values():
            side.send("prepare", work=body, warm_up=self._chosen.warm_up)
        ready: dict[str, dict[str, Any]] = {}
        for name in list(self.sides):
            if self._try(name, f"{work.name}: warm-up", lambda side: side.answer(TURN_LIMIT_S)):
                ready[name] = self._last
        found: dict[str, Any] = {
            "work": {k: v for k, v in body.items() if k != "utterances"}
            | {"utterances": len(work.utterances), "text": work.utterances[0].text[:200]}
        }
        measured = self._turns(work)
        for name, seconds in measured.items():
            figured = figures.side(seconds, ready[name]["flops"], self.peak)
            found[name] = {**figured, "warm_up": ready[name]}
            if self._try(name, "memory", self._asking("memory")):
                found[name]["memory"] = self._last
        # Counting and comparing allocate what speaking does not: after memory was read.
        for name in [name for name in measured if name in self.sides]:
            if self._try(name, "counting", self._asking("step")):
                found[name]["step"] = self._last
        if "ours" in measured:
            ours = measured["ours"]
            found["faster"] = {
                name: {
                    "total": figures.faster(ours["total_s"], other["total_s"]),
                    "first_audio": figures.faster(ours["first_audio_s"], other["first_audio_s"]),
                }
                for name, other in measured.items()
                if name != "ours"
            }
        if not self._chosen.no_fidelity:
            found["fidelity"] = self._fidelity()
        return found

    def _turns(self, work: Work) -> dict[str, dict[str, Any]]:
        measured: dict[str, dict[str, Any]] = {}
        done = 0
        while done < self._chosen.runs and self.sides:
            passes = min(PASSES_A_TURN, self._chosen.runs - done)
            for name in list(self.sides):
                if not self._try(name, work.name, self._asking("turn", passes=passes)):
                    measured.pop(name, None)
                    continue
                kept = measured.setdefault(name, {"total_s": [], "first_audio_s": []})
                kept["total_s"] += self._last["total_s"]
                kept["first_audio_s"] += self._last["first_audio_s"]
                kept["samples"] = self._last["samples"]
            done += passes
            shown = ", ".join(
                f"{name} {1e3 * sorted(kept['total_s'])[len(kept['total_s']) // 2]:.1f} ms"
                for name, kept in measured.items()
            )
            say(f"{work.name}: {done} of {self._chosen.runs} passes; {shown}")
        return measured

    def _fidelity(self) -> dict[str, Any]:
        """Ours and plain upstream on the same noise, against upstream in exact fp32."""
        if "ours" not in self.sides or "upstream" not in self.sides:
            return {"unknown": "this takes the sides ours and upstream"}
        made, again = self._folder / "made.pickle", self._folder / "again.pickle"
        if not self._try("ours", "fidelity", self._asking("make", file=str(made), pieces=PIECES)):
            return {"unknown": self.failed["ours"]}
        asking = self._asking("again", file=str(made), into=str(again))
        if not self._try("upstream", "fidelity", asking):
            return {"unknown": self.failed["upstream"]}
        with made.open("rb") as one, again.open("rb") as two:
            rows, answers = pickle.load(one), pickle.load(two)  # noqa: S301 - written just now
        return figures.fidelity(rows, answers["native"], answers["exact"])

    def end(self) -> None:
        for side in self.sides.values():
            side.end()


def options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m f5_tts.fast.compare", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("--upstream", type=Path, help="the src folder of an unpatched tree")
    parser.add_argument("--workload", action="append")
    parser.add_argument("--work", type=Path, help="a JSON list of works instead")
    parser.add_argument("--side", action="append", choices=SIDES)
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--warm-up", type=int, default=3)
    parser.add_argument("--preset", choices=("full", "small"), default="full")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--cfg-strength", type=float, default=2.0)
    parser.add_argument("--ckpt-file", help="real weights; else random ones")
    parser.add_argument("--vocab-file")
    parser.add_argument("--vocoder-dir", help="the folder of vocos-mel-24khz, with --ckpt-file")
    parser.add_argument("--peak-tflops", type=float, help="of this device; else it is measured")
    parser.add_argument("--no-fidelity", action="store_true")
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args(argv)
    chosen.side = list(dict.fromkeys(chosen.side or SIDES[:2]))
    if any(name != "ours" for name in chosen.side) and chosen.upstream is None:
        parser.error("--upstream is missing; give the src folder of an unpatched F5-TTS")
    if chosen.runs < 1 or chosen.warm_up < 1:
        parser.error("--runs and --warm-up are 1 or more")
    return chosen


def works(chosen: argparse.Namespace) -> list[Work]:
    """ValueError names a workload that there is not, or a file that holds none."""
    if chosen.work is None:
        return [named(name) for name in chosen.workload or ["M"]]
    return [from_json(body) for body in json.loads(chosen.work.read_text(encoding="utf-8"))]


def document(chosen: argparse.Namespace, shown: Sequence[str]) -> dict[str, Any]:
    """Measure, and say everything about it. ValueError: see `works`."""
    wanted = works(chosen)
    began = time.time()
    with tempfile.TemporaryDirectory(prefix="f5-compare-") as folder:
        running = Comparison(chosen, Path(folder))
        try:
            running.load()
            found = {work.name: running.run(work) for work in wanted if "ours" in running.sides}
        finally:
            running.end()
    first: dict[str, Any] = next(iter(running.about.values()), {})
    weights = chosen.ckpt_file or f"random, seed {SEED}"
    return {
        "kind": KIND,
        "version": VERSION,
        "about": {
            "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(began)),
            "gpu": first.get("device"),
            "torch": first.get("torch"),
            "cuda": first.get("cuda"),
            "python": platform.python_version(),
            "processor": platform.machine(),
            "command": " ".join(shown),
            "weights": f"{weights}, preset {chosen.preset}",
            "cfg_strength": chosen.cfg_strength,
            "took_s": round(time.time() - began, 1),
        },
        "peak": {
            "tflop_per_s": round(running.peak, 3),
            "how": "given" if chosen.peak_tflops else "measured with one large product",
        },
        "sides": {n: {k: v for k, v in row.items() if k != "source"}
                  for n, row in running.about.items()},
        "failed": running.failed,
        "workloads": found,
    }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    chosen = options(argv)
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        result = document(chosen, ["python -m f5_tts.fast.compare", *given])
    except ValueError as error:
        say(str(error))
        return 2
    text = json.dumps(result, indent=1) + "\n"
    if chosen.out is not None:
        chosen.out.write_text(text, encoding="utf-8")
    else:
        sys.stdout.write(text)
    return int("ours" in result["failed"])


if __name__ == "__main__":
    sys.exit(main())
