"""Upstream's own CFM and Vocos with the same weights, through its own `infer_batch_process`.

Which upstream that is, is the import path's business: an unpatched tree before this one in
PYTHONPATH gives unpatched modules (`f5_tts` is a namespace package). In a patched tree it is the
code that runs with F5_FAST_BRIDGE=0.
"""

from __future__ import annotations

import importlib.util
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from f5_tts.fast import arch, vocoder, weights
from f5_tts.fast.compare import counting
from f5_tts.fast.compare.ours import Model, Spoken, synchronize, timed
from f5_tts.fast.compare.work import (
    PRESETS,
    RATE,
    SEED,
    SMALL_VOCODER,
    Utterance,
    Work,
    clip,
    text_of,
)

TRAINER = "f5_tts.model.trainer"
# Upstream imports these beside what speaks; a box that only speaks may lack them.
NOT_SPEAKING = ("matplotlib", "matplotlib.pylab", "transformers", "pydub", "cached_path")
# Without more of them a compiled network falls back to the plain one as lengths change.
RECOMPILES = 64
VOCOS = {"dim": 512, "hidden": 1536, "layers": 8}


class NotUpstream(RuntimeError):
    """The tree that was given is not an unpatched one."""


class _Absent(ModuleType):
    """Stands for a module that is not installed and that nothing here uses."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *_, **__: None


def without_training() -> list[str]:
    """Let upstream be imported without what only its trainer and its interface need; the names
    of the modules that something stands for."""
    absent = [TRAINER]
    absent += [
        name for name in NOT_SPEAKING if importlib.util.find_spec(name.split(".")[0]) is None
    ]
    for name in absent:
        stand_in = _Absent(name)
        for member in ("Trainer", "pipeline", "cached_path", "AudioSegment", "silence"):
            setattr(stand_in, member, None)
        sys.modules.setdefault(name, stand_in)
    return absent


def unpatched() -> Path:
    """The imported tree's `src` folder; NotUpstream where it has the series' hooks."""
    from f5_tts.infer import utils_infer

    here = Path(utils_infer.__file__).resolve()
    if hasattr(utils_infer, "fast_path"):
        raise NotUpstream(f"{here} has the series' hooks: give an unpatched tree")
    return here.parents[2]


class Upstream:
    """Upstream's modules as its own `api` builds them. `compiled`: torch.compile(transformer)."""

    def __init__(self, model: Model, source: Path, *, compiled: bool = False) -> None:
        self.model, self._source = model, source
        self.device = torch.device(model.device if model.device != "auto" else _best_device())
        self.dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        self.sizes, self._vocab = _sizes(model, source), _vocabulary(model, source)
        self.arch = arch.from_mapping(self.sizes)
        self.cfm = self.build(self.dtype)
        self.plain = self.cfm.transformer
        self.vocos = self._vocoder()
        self.compiled = compiled
        if compiled:
            self._compile()

    @property
    def name(self) -> str:
        return "upstream-compiled" if self.compiled else "upstream"

    def build(self, dtype: torch.dtype) -> Any:
        """A CFM of its own in this type."""
        from f5_tts.model import CFM, DiT

        symbols, size = self._vocab
        made = CFM(
            transformer=DiT(**self.sizes, text_num_embeds=size, mel_dim=100),
            mel_spec_kwargs={"n_mel_channels": 100, "mel_spec_type": "vocos"},
            odeint_kwargs={"method": "euler"},
            vocab_char_map=symbols,
        )
        if self.model.ckpt_file is None:
            state = weights.random_state(self.arch, size, SEED)
        else:
            state = weights.read_checkpoint(self.model.ckpt_file)
        made.transformer.load_state_dict(state, strict=False)
        return made.to(dtype).to(self.device).eval()

    def _vocoder(self) -> Any:
        if self.model.vocoder_dir is None:
            return random_vocos(self.device, small=self.model.preset == "small")
        from f5_tts.infer.utils_infer import load_vocoder

        folder = str(self.model.vocoder_dir)
        return load_vocoder(is_local=True, local_path=folder, device=str(self.device)).eval()

    def _compile(self) -> None:
        config: Any = torch._dynamo.config
        for name in ("recompile_limit", "cache_size_limit"):
            if hasattr(config, name):
                setattr(config, name, RECOMPILES)
        self.cfm.transformer = torch.compile(self.plain)

    # ---- speaking ----------------------------------------------------------------------------

    def chunks(self, work: Work, utterance: Utterance) -> list[str]:
        """As upstream's `infer_process` splits it; a text of a given length stays whole."""
        from f5_tts.infer.utils_infer import chunk_text

        if utterance.seconds is not None:
            return [utterance.text]
        words = text_of(work.reference_s) + " "
        rate = len(words.encode("utf-8")) / work.reference_s
        return list(chunk_text(utterance.text, max_chars=int(rate * (22 - work.reference_s))))

    def _request(self, work: Work, utterance: Utterance, *, streaming: bool) -> Any:
        from f5_tts.infer.utils_infer import infer_batch_process

        audio = torch.from_numpy(clip(work.reference_s, utterance.voice)).unsqueeze(0)
        return infer_batch_process(
            (audio, RATE), text_of(work.reference_s) + " ", self.chunks(work, utterance),
            self.cfm, self.vocos, progress=None, nfe_step=work.nfe,
            cfg_strength=self.model.cfg_strength, fix_duration=work.total_s(utterance),
            device=str(self.device), streaming=streaming,
        )  # fmt: skip

    def speak(self, work: Work, utterance: Utterance) -> Spoken:
        """All of it at once, as upstream's `infer` gives it."""
        made: list[Any] = []
        seconds = timed(lambda: made.append(next(self._request(work, utterance, streaming=False))))
        return Spoken(seconds, seconds, len(made[0][0]))

    def stream(self, work: Work, utterance: Utterance) -> Spoken:
        """Through upstream's own streaming: a chunk's audio comes when the chunk is finished."""
        synchronize()
        start = time.perf_counter()
        first = 0.0
        samples = 0
        for piece, _ in self._request(work, utterance, streaming=True):
            first = first or time.perf_counter() - start
            samples += len(piece)
        return Spoken(time.perf_counter() - start, first, samples)

    def all_at_once(self, work: Work, utterance: Utterance) -> bool:
        """Does all of its audio come with the first?"""
        return len(self.chunks(work, utterance)) == 1

    # ---- counting ----------------------------------------------------------------------------

    def _seen(self, work: Work, utterance: Utterance) -> list[dict[str, Any]]:
        """The arguments of every call of the plain network while the utterance is spoken."""
        calls: list[dict[str, Any]] = []

        def note(_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            calls.append(dict(kwargs) if not args else {"x": args[0], **kwargs})

        before, self.cfm.transformer = self.cfm.transformer, self.plain
        handle = self.plain.register_forward_pre_hook(note, with_kwargs=True)
        try:
            for _ in self._request(work, utterance, streaming=True):
                pass
        finally:
            handle.remove()
            self.cfm.transformer = before
        return calls

    def _flops_of(self, call: Mapping[str, Any]) -> float:
        x = call["x"]
        rows = x.shape[0] * (2 if call.get("cfg_infer") else 1)
        return counting.flops(self.arch, rows, x.shape[1])

    def flops(self, work: Work) -> float:
        """Of the network, for one pass; where the text decides the length, by the calls it gets."""
        rows = 2 if self.model.cfg_strength > 0 else 1
        total = 0.0
        for utterance in work.utterances:
            fixed = work.total_s(utterance)
            if fixed is None:
                total += sum(self._flops_of(call) for call in self._seen(work, utterance))
            else:
                frames = int(fixed * RATE / 256)
                total += work.nfe * counting.flops(self.arch, rows, frames)
        return total

    def step(self, work: Work) -> counting.Step:
        """The work of one network evaluation of the first utterance, of its longest piece."""
        calls = self._seen(work, work.utterances[0])
        frames = max(call["x"].shape[1] for call in calls)
        longest = [call for call in calls if call["x"].shape[1] == frames]
        guided = self.model.cfg_strength > 0
        # Versions that do not join guidance's halves call the network twice a step.
        together = longest[:1] if longest[0].get("cfg_infer") or not guided else longest[:2]
        total = sum(self._flops_of(call) for call in together)

        def on(network: Any) -> Callable[[], None]:
            def once() -> None:
                for call in together:
                    network(**call)

            return once

        with torch.inference_mode():
            network = self.cfm.transformer
            on(network)()
            bare = None if self.compiled else on(self.plain)
            found = counting.step(on(network), bare, frames, total)
            self.forget_text()
        return found

    def forget_text(self) -> None:
        """The encoded text, which upstream keeps from one call to the next."""
        if hasattr(self.plain, "clear_cache"):
            self.plain.clear_cache()

    # ---- fidelity ----------------------------------------------------------------------------

    def again(self, row: Mapping[str, Any], work: Work, cfm: Any | None = None) -> tuple[Any, Any]:
        """(mel (frames, mel), samples) for the words, reference, noise and length of a row of
        `Ours.made`, on the host; `cfm` is another model of `build`."""
        from f5_tts.model.utils import convert_char_to_pinyin

        model = cfm if cfm is not None else self.cfm
        noise = torch.from_numpy(row["noise"]).to(self.device)
        plain = torch.randn
        # CFM.sample draws its noise with torch.randn; a comparison needs the same noise.
        torch.randn = lambda *_, **options: noise.to(options.get("dtype") or torch.float32)
        try:
            with torch.inference_mode():
                out, _ = model.sample(
                    cond=torch.from_numpy(row["reference"]).unsqueeze(0).to(self.device),
                    text=convert_char_to_pinyin([str(row["words"])]),
                    duration=int(row["frames"]), steps=work.nfe,
                    cfg_strength=self.model.cfg_strength, sway_sampling_coef=-1.0,
                )  # fmt: skip
                mel = out[0, int(row["reference_frames"]) :].float()
                wave = self.vocos.decode(mel.T.unsqueeze(0))[0]
        finally:
            torch.randn = plain
        return mel.cpu().numpy(), wave.cpu().numpy()

    def reference(self, rows: list[dict[str, Any]], work: Work) -> list[tuple[Any, Any]]:
        """`again` in fp32 with TF32 off: what all others are compared with."""
        cfm = self.build(torch.float32)
        with counting.exact_products():
            return [self.again(row, work, cfm) for row in rows]

    def about(self) -> dict[str, Any]:
        return {"dtype": str(self.dtype).removeprefix("torch."), "compiled": self.compiled}


def random_vocos(device: torch.device, *, small: bool) -> Any:
    """The vocos package's own module, with the weights that a synthesizer of random weights has."""
    from vocos.feature_extractors import MelSpectrogramFeatures
    from vocos.heads import ISTFTHead
    from vocos.models import VocosBackbone
    from vocos.pretrained import Vocos

    sizes = SMALL_VOCODER if small else VOCOS
    made = Vocos(
        MelSpectrogramFeatures(),
        VocosBackbone(100, sizes["dim"], sizes["hidden"], sizes["layers"]),
        ISTFTHead(sizes["dim"], 1024, 256, padding="center"),
    )
    state = vocoder.random_state(SEED, **(SMALL_VOCODER if small else {}))
    made.load_state_dict(state, strict=False)
    return made.to(device).eval()


def _best_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def _sizes(model: Model, source: Path) -> dict[str, Any]:
    chosen = PRESETS[model.preset]
    if not isinstance(chosen, str):
        return dict(chosen)
    import yaml

    text = (source / f"f5_tts/configs/{chosen}.yaml").read_text(encoding="utf-8")
    sizes: dict[str, Any] = yaml.safe_load(text)["model"]["arch"]
    return sizes


def _vocabulary(model: Model, source: Path) -> tuple[Any, int]:
    from f5_tts.model.utils import get_tokenizer

    path = model.vocab_file or source / "f5_tts/infer/examples/vocab.txt"
    symbols, size = get_tokenizer(str(path), "custom")
    return symbols, size
