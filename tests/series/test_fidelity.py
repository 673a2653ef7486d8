"""The restructured network gives upstream's result, in every supported version."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import f5_small as small
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytestmark = pytest.mark.timeout(120)

TEXT = "I don't really care, 你好世界 what you call me."


def sample_upstream(
    source: Path, voice: Any, text: str, frames: int, *, cfg: float = 2.0, nfe: int = 7, **arch: Any
) -> torch.Tensor:
    from f5_tts.model.utils import convert_char_to_pinyin

    model = small.upstream_model(source, **arch)
    out, _ = model.sample(
        cond=voice.mel.unsqueeze(0).float(),
        text=convert_char_to_pinyin([voice.text + text]),
        duration=frames,
        steps=nfe,
        cfg_strength=cfg,
        sway_sampling_coef=-1.0,
        seed=5,
    )
    return out[0, voice.frames :]


def jobs_for(synthesizer: Any, voice: Any, texts: list[str], **settings: Any) -> list[Any]:
    from f5_tts.fast.synthesizer import SynthesisSettings

    chosen = SynthesisSettings(**settings)
    return [
        synthesizer.job(text, voice, chosen, torch.Generator().manual_seed(5)) for text in texts
    ]


def run(synthesizer: Any, jobs: list[Any], nfe: int = 7) -> list[torch.Tensor]:
    from f5_tts.fast.schedule import build

    engine = synthesizer.engine
    mels: list[torch.Tensor] = engine.mels(jobs, engine.tables(build(nfe, -1.0)))
    return mels


@pytest.mark.parametrize("cfg", [2.0, 0.0])
def test_same_mel_as_upstream(patched: Path, cfg: float) -> None:
    synthesizer = small.synthesizer()
    voice = synthesizer.voice(small.clip(0), 24000, small.TRANSCRIPT)
    (job,) = jobs_for(synthesizer, voice, [TEXT], cfg_strength=cfg)
    want = sample_upstream(patched, voice, TEXT, job.frames, cfg=cfg)
    (got,) = run(synthesizer, [job])
    assert want.std() > 0.1, "a reference that is nearly constant proves nothing"
    assert small.relative(got, want) < 1e-5


def test_the_comparison_notices_a_wrong_rotary_angle(patched: Path) -> None:
    synthesizer = small.synthesizer()
    voice = synthesizer.voice(small.clip(0), 24000, small.TRANSCRIPT)
    (job,) = jobs_for(synthesizer, voice, [TEXT])
    want = sample_upstream(patched, voice, TEXT, job.frames)
    engine = synthesizer.engine
    engine._rotary = engine._rotary.roll(1, dims=1)
    (got,) = run(synthesizer, [job])
    assert small.relative(got, want) > 1e-4


@pytest.mark.parametrize(
    "sizes",
    [{"pe_attn_head": 1, "text_mask_padding": False}, {"conv_layers": 0}],
    ids=["v0", "plain text"],
)
def test_other_architectures(patched: Path, sizes: dict[str, Any]) -> None:
    synthesizer = small.synthesizer(**sizes)
    voice = synthesizer.voice(small.clip(0), 24000, small.TRANSCRIPT)
    (job,) = jobs_for(synthesizer, voice, [TEXT])
    want = sample_upstream(patched, voice, TEXT, job.frames, **sizes)
    assert small.relative(run(synthesizer, [job])[0], want) < 1e-5


def test_tokens_are_upstreams(patched: Path) -> None:
    from f5_tts.fast import text
    from f5_tts.model.utils import convert_char_to_pinyin

    samples = [
        "Hello; “world” — it's 3:45 p.m., isn't it?",
        "今天天气不错，我们去公园吧。Yes, let's go!",
        "混合mixed文本with English和数字123。",
        "Ça va très bien, merci… «oui»",
        "日本語テスト 한국어 ру́сский",
        "",
    ]
    assert [text.to_symbols(sample) for sample in samples] == convert_char_to_pinyin(samples)


def test_mel_is_upstreams(patched: Path) -> None:
    from f5_tts.fast import mel
    from f5_tts.model.modules import MelSpec

    wave = torch.from_numpy(small.clip(3)).unsqueeze(0)
    want = MelSpec(mel_spec_type="vocos")(wave).permute(0, 2, 1)
    assert small.relative(mel.log_mel(wave), want) < 1e-5


def test_half_precision_is_nearer_than_upstreams(
    newest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound of a GPU, here with the small network on the CPU: on the same noise our fp16 is
    nearer to upstream's fp32 than upstream's own fp16, which has angles and time steps in fp16."""
    import dataclasses

    from f5_tts.fast.synthesizer import Synthesizer
    from f5_tts.model.utils import convert_char_to_pinyin

    exact = small.synthesizer()
    voice = exact.voice(small.clip(0, 1.2), 24000, "Some call me so.")
    (job,) = jobs_for(exact, voice, ["It is I, 你好."], nfe=5)
    rounded = {"noise": job.noise.half(), "mel": job.mel.half()}
    half = Synthesizer.load(
        model=small.ARCH, ckpt_file=None, device="cpu", dtype="float16", random_weights_seed=1
    )
    (ours,) = run(half, [dataclasses.replace(job, **rounded)], nfe=5)

    model = small.upstream_model(newest)
    spoken = convert_char_to_pinyin([voice.text + "It is I, 你好."])
    theirs = {}
    for dtype in (torch.float32, torch.float16):
        noise = rounded["noise"].to(dtype)
        with monkeypatch.context() as patch:
            patch.setattr(torch, "randn", lambda *size, given=noise, **options: given)
            out, _ = model.to(dtype).sample(
                cond=rounded["mel"].to(dtype).unsqueeze(0), text=spoken, duration=job.frames,
                steps=5, cfg_strength=2.0, sway_sampling_coef=-1.0,
            )  # fmt: skip
        theirs[dtype] = out[0, voice.frames :].float()
    want = theirs[torch.float32]
    assert small.relative(ours.float(), want) < 1e-2, "a mel SNR of 40 dB"
    assert small.relative(ours.float(), want) < small.relative(theirs[torch.float16], want)


class Seen(TorchDispatchMode):  # type: ignore[no-untyped-call,unused-ignore]
    """Every operator that runs inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call,unused-ignore]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.overloadpacket.__name__)
        return func(*args, **(kwargs or {}))


# Whose result the host must have before it can go on.
WAITS = {"_local_scalar_dense", "is_nonzero", "nonzero", "equal", "masked_select", "unique"}


def test_no_step_waits_for_the_device(newest: Path) -> None:
    """What would synchronise on a GPU does not run between loading a job and its finished mel;
    upstream's sampling, watched alike, does so in every step."""
    synthesizer = small.synthesizer()
    voice = synthesizer.voice(small.clip(0), 24000, small.TRANSCRIPT)
    (job,) = jobs_for(synthesizer, voice, [TEXT])
    run(synthesizer, [job])
    with Seen() as ours:
        run(synthesizer, [job])
    assert "addmm" in ours.names or "linear" in ours.names
    assert not ours.names & WAITS
    with Seen() as theirs:
        sample_upstream(newest, voice, TEXT, job.frames)
    assert theirs.names & WAITS


@pytest.mark.parametrize("steps", [5, 6, 7, 10, 12, 16, 32, 9])
def test_time_grid_is_upstreams(newest: Path, steps: int) -> None:
    from f5_tts.fast import schedule
    from f5_tts.model.utils import get_epss_timesteps

    t = get_epss_timesteps(steps, device="cpu", dtype=torch.float64)
    t = t - (torch.cos(torch.pi / 2 * t) - 1 + t)
    built = schedule.build(steps, -1.0, warn=False)
    torch.testing.assert_close(torch.tensor(built.times, dtype=torch.float64), t[:-1])
    torch.testing.assert_close(torch.tensor(built.deltas, dtype=torch.float64), t.diff())


def test_steps_without_a_table_are_warned_about(newest: Path) -> None:
    from f5_tts.fast import schedule

    with pytest.warns(UserWarning, match="nfe 8 has no tuned time grid"):
        schedule.build(8, -1.0)
    with pytest.raises(ValueError, match="nfe is 0"):
        schedule.build(0, None)


def test_bucketed_is_exact(newest: Path) -> None:
    from f5_tts.fast.engine import Engine

    synthesizer = small.synthesizer()
    voice = synthesizer.voice(small.clip(0), 24000, small.TRANSCRIPT)
    jobs = jobs_for(synthesizer, voice, [TEXT])
    exact = synthesizer.engine
    padded = Engine(exact.weights, exact.vocos, exact.switches, bucket=192)
    assert padded.rounded(jobs[0].frames) > jobs[0].frames
    tables = exact.tables(exact.schedule(7, -1.0))
    (want,), (got,) = exact.render(jobs, tables), padded.render(jobs, tables)
    assert small.relative(got.mel, want.mel) < 1e-5
    assert small.relative(torch.from_numpy(got.wave), torch.from_numpy(want.wave)) < 1e-4


def test_bucketed_does_not_depend_on_what_was_there_before(newest: Path) -> None:
    from f5_tts.fast.engine import Engine

    synthesizer = small.synthesizer()
    voice = synthesizer.voice(small.clip(0), 24000, small.TRANSCRIPT)
    short, long = jobs_for(synthesizer, voice, ["Short one here.", TEXT + TEXT])
    exact = synthesizer.engine
    padded = Engine(exact.weights, exact.vocos, exact.switches, bucket=1024)
    tables = exact.tables(exact.schedule(7, -1.0))
    before = padded.render([short], tables)[0]
    with torch.inference_mode():
        padded.step_plan(1024, 1, True).inputs.y.fill_(float("nan"))
    padded.render([long], tables)
    after = padded.render([short], tables)[0]
    assert torch.equal(before.mel, after.mel)
    assert (before.wave == after.wave).all()


def test_batch_is_single(newest: Path) -> None:
    synthesizer = small.synthesizer()
    voices = [synthesizer.voice(small.clip(n), 24000, small.TRANSCRIPT) for n in range(3)]
    texts = [
        "One short sentence.",
        "This is a rather longer sentence than the first one was.",
        "你好世界",
    ]
    jobs = [jobs_for(synthesizer, v, [t])[0] for v, t in zip(voices, texts, strict=True)]
    together = run(synthesizer, jobs)
    for job, got in zip(jobs, together, strict=True):
        (alone,) = run(synthesizer, [job])
        assert got.shape == alone.shape
        assert small.relative(got, alone) < 1e-5


@pytest.mark.parametrize("padding", ["center", "same"])
def test_vocoder_is_vocos(newest: Path, padding: str) -> None:
    from f5_tts.fast import vocoder

    feature_extractors = pytest.importorskip("vocos.feature_extractors")
    heads, models = pytest.importorskip("vocos.heads"), pytest.importorskip("vocos.models")
    pretrained = pytest.importorskip("vocos.pretrained")
    module = pretrained.Vocos(
        feature_extractors.MelSpectrogramFeatures(),
        models.VocosBackbone(100, 64, 128, 2),
        heads.ISTFTHead(64, 1024, 256, padding=padding),
    )
    raw = vocoder.random_state(4, dim=64, hidden=128, layers=2)
    missing, unexpected = module.load_state_dict(raw, strict=False)
    assert not unexpected
    assert not [name for name in missing if name.startswith(("backbone", "head.out"))]
    folded = vocoder.from_module(module, torch.device("cpu"))
    mel = torch.randn(1, 100, 90, generator=torch.Generator().manual_seed(1))
    want = module.decode(mel)
    padded = torch.full((1, 128, 100), float("nan"))
    padded[:, :90] = mel.transpose(1, 2)
    for frames in (mel.transpose(1, 2), padded):
        got = vocoder.decode(folded, frames, torch.tensor([90]))
        assert small.relative(got[:, : want.shape[1]], want) < 1e-5
    assert want.shape[1] == vocoder.samples_for(folded, 90)
