"""One side in a process of its own: a line of JSON asks, a line of JSON answers.

    python -m f5_tts.fast.compare.worker SIDE SETTINGS_JSON

Which tree is imported is PYTHONPATH's business. What the code under test prints goes to stderr.
"""

from __future__ import annotations

import gc
import json
import os
import pickle
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDES = ("ours", "upstream", "upstream-compiled")


class Worker:
    """Answers what the coordinator asks; see `figures` for what becomes of it."""

    def __init__(self, side: str, settings: dict[str, Any]) -> None:
        import torch
        from f5_tts.fast.compare.ours import Model, Ours
        from f5_tts.fast.compare.work import Work

        begin = time.perf_counter()
        paths = ("ckpt_file", "vocab_file", "vocoder_dir", "cache_dir")
        given: dict[str, Any] = {
            key: Path(value) if key in paths and value is not None else value
            for key, value in settings.items()
        }
        model = Model(**given)
        self._torch = torch
        if model.preset == "small":
            # More threads would only wait for each other.
            torch.set_num_threads(1)
        self.absent: list[str] = []
        self.source = ""
        if side == "ours":
            self.side: Any = Ours(model)
            self.source = str(Path(sys.modules["f5_tts.fast.engine"].__file__ or "").parents[2])
        else:
            from f5_tts.fast.compare import upstream

            self.absent = upstream.without_training()
            source = upstream.unpatched()
            self.source = str(source)
            self.side = upstream.Upstream(model, source, compiled=side == "upstream-compiled")
        self.load_s = time.perf_counter() - begin
        self.work = Work("", ())
        self.made: list[dict[str, Any]] = []

    def about(self, _: Any) -> dict[str, Any]:
        torch = self._torch
        cuda = torch.cuda.is_available() and str(self.side.model.device) != "cpu"
        return {
            "load_s": round(self.load_s, 2),
            "source": self.source,
            "stood_for": self.absent,
            "torch": torch.__version__,
            "cuda": torch.version.cuda if cuda else None,
            "device": torch.cuda.get_device_name() if cuda else "cpu",
            "threads": torch.get_num_threads(),
            **self.side.about(),
        }

    def prepare(self, body: Any) -> dict[str, Any]:
        """Take a workload and speak it until nothing is new: at least `warm_up` whole passes."""
        from f5_tts.fast.compare.work import from_json

        self.work = from_json(body["work"])
        torch = self._torch
        begin = time.perf_counter()
        # First one after the other, because a compiler is not to be met by many threads at once.
        self.side.stream(self.work, self.work.utterances[0])
        first = time.perf_counter() - begin
        for _ in range(body["warm_up"]):
            for utterance in self.work.utterances:
                self.side.speak(self.work, utterance)
            self.side.stream(self.work, self.work.utterances[0])
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return {
            "first_s": round(first, 3),
            "warm_up_s": round(time.perf_counter() - begin, 3),
            "flops": self.side.flops(self.work),
        }

    def turn(self, body: Any) -> dict[str, Any]:
        """`passes` measured, after the first utterance once unmeasured: another side was here."""
        utterances = self.work.utterances
        self.side.speak(self.work, utterances[0])
        totals, samples = [], 0
        for _ in range(body["passes"]):
            spoken = [self.side.speak(self.work, one) for one in utterances]
            totals.append(sum(one.seconds for one in spoken))
            samples = sum(one.samples for one in spoken)
        if len(utterances) == 1 and self.side.all_at_once(self.work, utterances[0]):
            first = totals
        else:
            streamed = [self.side.stream(self.work, utterances[0]) for _ in totals]
            first = [one.first_s for one in streamed]
        return {"total_s": totals, "first_audio_s": first, "samples": samples}

    def step(self, _: Any) -> dict[str, Any]:
        found: dict[str, Any] = self.side.step(self.work).to_json()
        return found

    def memory(self, _: Any) -> dict[str, Any]:
        torch = self._torch
        rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        found: dict[str, Any] = {"peak_rss_gb": round(rss * 1024 / 1e9, 3)}
        if torch.cuda.is_available():
            found["peak_vram_gb"] = round(torch.cuda.max_memory_allocated() / 1e9, 3)
            found["peak_vram_reserved_gb"] = round(torch.cuda.max_memory_reserved() / 1e9, 3)
        return found

    def peak(self, _: Any) -> dict[str, Any]:
        from f5_tts.fast.compare import counting

        return {"tflop_per_s": counting.peak(self.side.engine.weights.device) / 1e12}

    def make(self, body: Any) -> dict[str, Any]:
        """Ours: what the fidelity test compares, into a file."""
        rows = self.side.made(self.work, body["pieces"])
        _keep(Path(body["file"]), rows)
        self._give_back()
        return {"pieces": len(rows)}

    def again(self, body: Any) -> dict[str, Any]:
        """Upstream: the same once more, in its own type and in exact fp32."""
        rows = _kept(Path(body["file"]))
        native = [self.side.again(row, self.work) for row in rows]
        exact = self.side.reference(rows, self.work)
        _keep(Path(body["into"]), {"native": native, "exact": exact})
        self._give_back()
        return {"pieces": len(native)}

    def _give_back(self) -> None:
        """The exact network is gone; the next workload's peak must not have it in it."""
        gc.collect()
        if self._torch.cuda.is_available():
            self._torch.cuda.empty_cache()


def _keep(path: Path, value: Any) -> None:
    with path.open("wb") as file:
        pickle.dump(value, file)


def _kept(path: Path) -> Any:
    # Between processes of one run, in a folder that only they have.
    with path.open("rb") as file:
        return pickle.load(file)  # noqa: S301


def main() -> int:
    """Answer until stdin ends."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    side, settings = sys.argv[1], json.loads(sys.argv[2])

    def answer(body: dict[str, Any]) -> None:
        answers.write(json.dumps(body) + "\n")
        answers.flush()

    try:
        worker = Worker(side, settings)
    except (ImportError, RuntimeError, ValueError, OSError) as error:
        answer({"error": f"{type(error).__name__}: {error}"})
        return 1
    answer(worker.about(None))
    for line in sys.stdin:
        asked = json.loads(line)
        do: Callable[[Any], dict[str, Any]] = getattr(worker, asked.pop("do"))
        try:
            answer(do(asked))
        except (RuntimeError, ValueError, TypeError, AttributeError, AssertionError) as error:
            answer({"error": f"{type(error).__name__}: {error}"[:800]})
    return 0


if __name__ == "__main__":
    sys.exit(main())
