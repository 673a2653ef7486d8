"""Embeds F5-TTS as iShowTTS's engine does, in a process of its own as its backend is.

    python engine.py JOB.json

It puts the configured `python_package_path` on the module path, makes one `f5_tts.api.F5TTS` with
the keyword arguments of `config/ishowtts.toml`, and calls `.infer` for every request of the job
from several threads behind one lock. Waves and spectrograms go to `<out>/<number>.npz`, the rest
to `<out>/told.json`.

A job with `paced` is asked one request at a time instead, as JSON lines on standard input, and
answers each on standard output with the processor seconds it took; `count` in a request asks for
the number of operators that torch ran and of values that it fetched to the host.
"""

from __future__ import annotations

import importlib.util
import json
import os
import queue
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


def give_torchaudio_a_decoder() -> None:
    """Since 2.9 `torchaudio.load`, which upstream's code calls, needs torchcodec. Where that is
    missing, soundfile stands in for it: the same samples in the same shape."""
    import soundfile
    import torch
    import torchaudio

    def load(path: str) -> tuple[torch.Tensor, int]:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
        return torch.from_numpy(samples.T.copy()), rate

    if importlib.util.find_spec("torchcodec") is None:
        torchaudio.load = load


def make_weights(job: dict[str, Any]) -> None:
    """A checkpoint and a vocoder on disk as published ones are, small, seeded, nowhere zero."""
    import torch
    import yaml
    from f5_tts.model import DiT
    from f5_tts.model.utils import get_tokenizer
    from safetensors.torch import save_file
    from vocos.pretrained import Vocos  # type: ignore[import-untyped]

    torch.manual_seed(5)
    _, size = get_tokenizer(job["constructor"]["vocab_file"], "custom")
    network = DiT(**job["arch"], text_num_embeds=size, mel_dim=100)
    with torch.no_grad():
        for parameter in network.parameters():  # AdaLN's zeros would make every answer zero
            parameter.normal_(0.0, 0.04)
    state = {f"ema_model.transformer.{name}": t.clone() for name, t in network.state_dict().items()}
    state |= {"initted": torch.ones(1), "step": torch.ones(1)}
    save_file(state, job["constructor"]["ckpt_file"])
    folder = Path(job["constructor"]["vocoder_local_path"])
    folder.mkdir()
    sizes = {"input_channels": 100, "dim": 64, "intermediate_dim": 128, "num_layers": 2}
    head = {"dim": 64, "n_fft": 1024, "hop_length": 256, "padding": "center"}
    features = "vocos.feature_extractors.MelSpectrogramFeatures"
    layout = {
        "feature_extractor": {"class_path": features, "init_args": {}},
        "backbone": {"class_path": "vocos.models.VocosBackbone", "init_args": sizes},
        "head": {"class_path": "vocos.heads.ISTFTHead", "init_args": head},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(layout))
    vocoder = Vocos.from_hparams(str(folder / "config.yaml"))
    torch.save(vocoder.state_dict(), folder / "pytorch_model.bin")


def counted(speak: Callable[[], object]) -> dict[str, int]:
    """What torch did, on all threads: operators that call no other, and values that the host waited
    for, each of which stops the queue of a GPU."""
    from torch.profiler import ProfilerActivity, _ExperimentalConfig, profile

    # Newer releases of upstream compute in a thread of their own.
    everywhere = _ExperimentalConfig(profile_all_threads=True)
    with profile(activities=[ProfilerActivity.CPU], experimental_config=everywhere) as seen:
        speak()
    operators = [event for event in seen.events() or [] if event.name.startswith("aten::")]
    leaves = [e for e in operators if not any(c.name.startswith("aten::") for c in e.cpu_children)]
    waits = [e for e in operators if e.name == "aten::_local_scalar_dense"]
    return {"operators": len(leaves), "waits": len(waits)}


def answer(engine: Any, channel: Any) -> None:
    """Processor time, not the clock's: other programs of this machine have no part in it."""
    for text in sys.stdin:
        request = json.loads(text)
        told: dict[str, float] = {}
        if request.pop("count", False):
            told.update(counted(lambda request=request: engine.infer(**request)))  # type: ignore[misc]
        begun = time.process_time()
        engine.infer(**request)
        channel.write(json.dumps({**told, "seconds": time.process_time() - begun}) + "\n")
        channel.flush()


def main(path: str) -> None:
    job = json.loads(Path(path).read_text())
    channel = os.fdopen(os.dup(1), "w")
    if job.get("paced"):
        os.dup2(2, 1)  # what upstream prints is no answer
    sys.path.insert(0, job["python_package_path"])
    import numpy as np
    import torch

    torch.set_num_threads(1)
    give_torchaudio_a_decoder()
    if job["make_weights"]:
        make_weights(job)
    from f5_tts.api import F5TTS

    engine = F5TTS(**job["constructor"])
    if job.get("paced"):
        channel.write("{}\n")
        channel.flush()
        answer(engine, channel)
        return
    lock = threading.Lock()
    out = Path(job["out"])
    rows: list[dict[str, Any]] = []

    def speak(number: int, request: dict[str, Any]) -> None:
        with lock:
            begun = time.monotonic()
            wave, rate, spectrogram = engine.infer(**request)
            row = {"request": number, "seconds": time.monotonic() - begun, "rate": rate}
            rows.append({**row, "thread": threading.current_thread().name})
        np.savez(out / f"{number}.npz", wave=wave, spectrogram=spectrogram)

    waiting: queue.Queue[tuple[int, dict[str, Any]]] = queue.Queue()
    for item in enumerate(job["requests"]):
        waiting.put(item)
    errors: list[BaseException] = []

    def serve() -> None:
        try:
            while True:
                speak(*waiting.get_nowait())
        except queue.Empty:
            return
        except BaseException as error:  # noqa: BLE001 (told by the main thread)
            errors.append(error)

    threads = [threading.Thread(target=serve, name=f"request-{n}") for n in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
    bridge = engine.ema_model.__dict__.get("_f5_fast_bridge")
    told = {
        "file": next(iter(sys.modules["f5_tts"].__path__)),
        "rows": rows,
        "fast_steps": bridge.engine.steps_run if bridge is not None else 0,
        "torchcodec": importlib.util.find_spec("torchcodec") is not None,
    }
    (out / "told.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1])
