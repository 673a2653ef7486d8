"""`f5_tts.api.F5TTS.infer`, with the hooks: upstream's signature and results, and fast."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import f5_small as small
import numpy as np
import pytest
import torch

for needed in (
    "hydra",
    "omegaconf",
    "cached_path",
    "pydub",
    "vocos",
    "x_transformers",
    "librosa",
    "soundfile",
):
    pytest.importorskip(needed, reason=f"upstream's api imports {needed}")

SHORT = "Hello out there, 你好 everybody."
LONG = "This is one sentence of some length, spoken slowly. " * 8


@pytest.fixture(scope="module")
def api(patched: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A real F5TTS of the small network, loaded from files as iShowTTS does, and a clip."""
    import soundfile
    import yaml
    from f5_tts.fast import arch, vocoder, weights
    from safetensors.torch import save_file

    folder = tmp_path_factory.mktemp("api")
    config = yaml.safe_load((patched / "f5_tts/configs/F5TTS_v1_Base.yaml").read_text())
    config["model"]["arch"] = {**small.ARCH, "text_mask_padding": True}
    tiny = patched / "f5_tts/configs/Tiny.yaml"
    tiny.write_text(yaml.safe_dump(config))
    state = weights.random_state(arch.from_mapping(small.ARCH), 2545, 1)
    # Upstream's checkpoints carry this buffer too.
    state["rotary_embed.inv_freq"] = 10000.0 ** -(torch.arange(0, 64, 2) / 64)
    ema = {f"ema_model.transformer.{name}": tensor for name, tensor in state.items()}
    ema |= {"initted": torch.ones(1), "step": torch.ones(1)}
    save_file(ema, str(folder / "tiny.safetensors"))
    save_vocos(folder / "vocos", vocoder.random_state(1, dim=64, hidden=128, layers=2))
    soundfile.write(folder / "clip.wav", 8 * small.clip(0), 24000)
    from f5_tts.api import F5TTS

    made = F5TTS(
        model="Tiny",
        ckpt_file=str(folder / "tiny.safetensors"),
        vocoder_local_path=str(folder / "vocos"),
        device="cpu",
    )
    yield made, folder / "clip.wav"
    tiny.unlink()


def save_vocos(folder: Path, raw: dict[str, torch.Tensor]) -> None:
    """A folder as `vocos-mel-24khz` has it, with small sizes."""
    from vocos.pretrained import Vocos

    folder.mkdir()
    (folder / "config.yaml").write_text(
        "feature_extractor: {class_path: vocos.feature_extractors.MelSpectrogramFeatures, "
        "init_args: {}}\n"
        "backbone: {class_path: vocos.models.VocosBackbone, init_args: "
        "{input_channels: 100, dim: 64, intermediate_dim: 128, num_layers: 2}}\n"
        "head: {class_path: vocos.heads.ISTFTHead, init_args: "
        "{dim: 64, n_fft: 1024, hop_length: 256, padding: center}}\n"
    )
    module = Vocos.from_hparams(str(folder / "config.yaml"))
    module.load_state_dict(raw, strict=False)
    torch.save(module.state_dict(), folder / "pytorch_model.bin")


def infer(api: Any, text: str, **settings: Any) -> tuple[Any, int, Any]:
    made, clip = api
    result: tuple[Any, int, Any] = made.infer(
        ref_file=str(clip), ref_text=small.TRANSCRIPT, gen_text=text, show_info=lambda *_: None,
        **{"seed": 11, "nfe_step": 7, "progress": None, **settings},
    )  # fmt: skip
    return result


@pytest.mark.parametrize(
    "settings", [{}, {"cfg_strength": 0.0}, {"fix_duration": 5.0}, {"speed": 1.3}]
)
def test_infer_gives_what_upstream_gives(
    api: Any, monkeypatch: pytest.MonkeyPatch, settings: dict[str, Any]
) -> None:
    wave, rate, spectrogram = infer(api, SHORT, **settings)
    monkeypatch.setenv("F5_FAST_BRIDGE", "0")
    want, want_rate, want_spectrogram = infer(api, SHORT, **settings)
    assert rate == want_rate == 24000
    assert wave.shape == want.shape and wave.dtype == want.dtype
    assert spectrogram.shape == want_spectrogram.shape
    assert np.abs(spectrogram - want_spectrogram).max() < 1e-3
    assert np.abs(wave - want).max() < 1e-3 * np.abs(want).max()


def test_the_fast_path_was_taken_and_can_be_turned_off(
    api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = api[0].ema_model
    infer(api, SHORT)
    engine = model.__dict__["_f5_fast_bridge"].engine
    before = engine.steps_run
    infer(api, SHORT)
    assert engine.steps_run == before + 7
    monkeypatch.setenv("F5_FAST_BRIDGE", "0")
    infer(api, SHORT)
    assert engine.steps_run == before + 7


def test_new_weights_in_the_same_model_are_noticed(api: Any) -> None:
    model = api[0].ema_model
    first, _, _ = infer(api, SHORT)
    saved = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for parameter in model.transformer.parameters():
            parameter.mul_(1.1)
    second, _, _ = infer(api, SHORT)
    model.load_state_dict(saved)
    third, _, _ = infer(api, SHORT)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, third)


def test_long_text_is_chunked_and_files_are_written(
    api: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that `infer` does beside: chunks, the wave file with its silence removed, and the picture
    of the spectrogram, which is made where one is asked for; each as by upstream's own path."""
    import soundfile
    from f5_tts.infer import utils_infer

    # Upstream's chunks draw their noise from the one global generator, in threads that race each
    # other: the same seed gives another wave now and then. One thread keeps their order.
    monkeypatch.setattr(utils_infer, "ThreadPoolExecutor", lambda: ThreadPoolExecutor(1))
    made: dict[str, Any] = {}
    for bridge in ("1", "0"):
        monkeypatch.setenv("F5_FAST_BRIDGE", bridge)
        asked = {
            "nfe_step": 5, "remove_silence": True,
            "file_wave": str(tmp_path / f"{bridge}.wav"),
            "file_spec": str(tmp_path / f"{bridge}.png"),
        }  # fmt: skip
        # Upstream's own path leaves its thread in inference mode where a text has several chunks.
        with ThreadPoolExecutor(1) as pool:
            wave, _, spectrogram = pool.submit(infer, api, LONG, **asked).result()
        assert spectrogram.shape[0] == 100
        assert wave.size > 10 * 24000
        written, rate = soundfile.read(str(tmp_path / f"{bridge}.wav"))
        assert rate == 24000
        assert (tmp_path / f"{bridge}.png").read_bytes()[:4] == b"\x89PNG"
        made[bridge] = wave, spectrogram, written
    for ours, theirs in zip(made["1"], made["0"], strict=True):
        assert ours.shape == theirs.shape
        # Files are of 16 bits.
        assert np.abs(ours - theirs).max() < 2e-3 * np.abs(theirs).max()
    whole, _, _ = infer(api, LONG, nfe_step=5, file_wave=str(tmp_path / "whole.wav"))
    assert whole.size == made["1"][0].size
    quiet = np.concatenate([whole, np.zeros(5 * 24000, np.float32)])
    soundfile.write(tmp_path / "quiet.wav", quiet, 24000)
    from f5_tts.infer.utils_infer import remove_silence_for_generated_wav

    remove_silence_for_generated_wav(str(tmp_path / "quiet.wav"))
    assert soundfile.info(str(tmp_path / "quiet.wav")).frames < quiet.size - 3 * 24000


def test_unpunctuated_chinese_is_cut_to_the_cap(patched: Path) -> None:
    from f5_tts.infer.utils_infer import chunk_text

    endless = "今天天气很好我们一起去公园散步" * 27
    assert max(len(chunk.encode()) for chunk in chunk_text(endless, max_chars=135)) <= 135
    assert chunk_text("One. Two. Three.", max_chars=135) == ["One. Two. Three."]


def test_a_cleaned_up_reference_is_made_again(api: Any) -> None:
    from f5_tts.infer import utils_infer

    infer(api, SHORT)
    for path in utils_infer._ref_audio_cache.values():
        shutil.move(path, path + ".gone")
    wave, _, _ = infer(api, SHORT)
    assert wave.size


def test_a_model_loaded_in_inference_mode_is_fast_too(api: Any, patched: Path) -> None:
    """Its parameters count no versions, and asking them for one is an error. A model that has
    spoken can be copied, and its copy speaks with what it has then."""
    import copy

    made, clip = api
    with torch.inference_mode():
        other = small.upstream_model(patched, text_mask_padding=True)
    usual, made.ema_model = made.ema_model, other
    try:
        got, _, _ = infer((made, clip), SHORT)
        engine = other.__dict__["_f5_fast_bridge"].engine
        assert engine.steps_run == 7
        made.ema_model = copy.deepcopy(other)
        again, _, _ = infer((made, clip), SHORT)
        assert made.ema_model.__dict__["_f5_fast_bridge"].engine is not engine
    finally:
        made.ema_model = usual
    want, _, _ = infer(api, SHORT)
    assert np.array_equal(got, want) and np.array_equal(again, want)


def test_streaming_pieces(api: Any) -> None:
    from f5_tts.infer.utils_infer import infer_batch_process

    made, _ = api
    audio = torch.from_numpy(small.clip(0)).unsqueeze(0)
    pieces = list(
        infer_batch_process(
            (audio, 24000), small.TRANSCRIPT + " ", ["Hello out there."],
            made.ema_model, made.vocoder,
            progress=None, nfe_step=5, device="cpu", streaming=True, chunk_size=2048,
        )
    )  # fmt: skip
    assert all(rate == 24000 for _, rate in pieces)
    assert [len(piece) for piece, _ in pieces[:-1]] == [2048] * (len(pieces) - 1)


def test_another_solver_runs_as_before(api: Any) -> None:
    from f5_tts.fast.bridge import fast_path

    model, vocos = api[0].ema_model, api[0].vocoder
    assert fast_path(model, vocos, "vocos") is not None
    assert fast_path(model, vocos, "bigvgan") is None
    model.odeint_kwargs = {"method": "midpoint"}
    assert fast_path(model, vocos, "vocos") is None
    assert infer(api, SHORT)[0].size
    model.odeint_kwargs = {"method": "euler"}


def test_quiet_is_said_by_a_variable(
    api: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Upstream's defaults, as iShowTTS's backend leaves them: a bar and the words of everybody."""
    import tqdm

    made, clip = api
    given = {"ref_file": str(clip), "ref_text": small.TRANSCRIPT, "gen_text": SHORT, "seed": 11}
    monkeypatch.delenv("F5_TTS_QUIET", raising=False)
    loud, _, _ = made.infer(**given, nfe_step=5)
    out, err = capfd.readouterr()
    assert "你好" in out and small.TRANSCRIPT in out and "batches" in out
    assert "1/1" in err, "tqdm's bar"

    monkeypatch.setenv("F5_TTS_QUIET", "1")
    for bridge in ("1", "0"):
        monkeypatch.setenv("F5_FAST_BRIDGE", bridge)
        silent, _, _ = made.infer(**given, nfe_step=5)
        assert capfd.readouterr() == ("", ""), f"bridge {bridge}"
        assert np.abs(silent - loud).max() < 1e-3 * np.abs(loud).max()

    # Somebody who wants to be told is told.
    told: list[str] = []
    made.infer(**given, nfe_step=5, show_info=told.append, progress=tqdm)
    assert any("batches" in line for line in told)
    monkeypatch.setenv("F5_TTS_QUIET", "0")
    made.infer(**given, nfe_step=5)
    assert "你好" in capfd.readouterr().out
