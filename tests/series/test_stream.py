"""Streaming, cancelling, seeds, limits: what a caller of the synthesizer sees."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import f5_small as small
import numpy as np
import pytest

LONG = "This is a first sentence of some length. " * 6


@pytest.fixture(scope="module")
def made(newest: Path) -> Any:
    synthesizer = small.synthesizer()
    return synthesizer, synthesizer.voice(small.clip(0), 24000, small.TRANSCRIPT)


def settings(**values: Any) -> Any:
    from f5_tts.fast.synthesizer import SynthesisSettings

    return SynthesisSettings(**{"nfe": 5, "seed": 7, **values})


def test_stream_is_synthesize_in_pieces(made: Any) -> None:
    synthesizer, voice = made
    pieces = list(synthesizer.stream(LONG, voice, settings()))
    assert len(pieces) > 2
    assert all(piece.dtype == np.float32 and piece.ndim == 1 and piece.size for piece in pieces)
    whole = synthesizer.synthesize(LONG, voice, settings())
    assert np.array_equal(np.concatenate(pieces), whole)
    assert np.isfinite(whole).all() and whole.std() > 1e-3


def test_first_chunk_is_short_and_comes_before_the_rest_is_computed(made: Any) -> None:
    synthesizer, voice = made
    steps: list[int] = []
    stream = synthesizer.stream(LONG, voice, settings(), progress=lambda: steps.append(1))
    first = next(iter(stream))
    assert len(steps) == 5, "one chunk's steps, not the whole text's"
    assert first.size < 3.0 * 24000


@pytest.mark.parametrize(("switch", "sizes"), [("1", [1, 1, 2, 4, 3]), ("0", [1] * 11)])
def test_chunks_batch_up_only_behind_what_can_be_listened_to(
    newest: Path, monkeypatch: pytest.MonkeyPatch, switch: str, sizes: list[int]
) -> None:
    """On a slow chip a batch of four takes longer than the short first chunk plays: the second
    comes alone too, or the listener waits for four."""
    monkeypatch.setenv("F5_FAST_BATCHING", switch)
    synthesizer = small.synthesizer()
    assert [len(group) for group in synthesizer._groups(range(11))] == sizes
    assert [list(group) for group in synthesizer._groups(range(2))] == [[0], [1]]
    assert [job for group in synthesizer._groups(range(11)) for job in group] == list(range(11))


def test_predicted_seconds_are_what_comes_out(made: Any) -> None:
    synthesizer, voice = made
    for speed in (1.0, 1.5):
        wave = synthesizer.synthesize(LONG, voice, settings(speed=speed))
        assert synthesizer.predict_seconds(LONG, voice, speed) == pytest.approx(
            wave.size / 24000, abs=0.2
        )


def test_same_seed_same_samples(made: Any) -> None:
    synthesizer, voice = made
    first, second = (synthesizer.synthesize(LONG, voice, settings()) for _ in range(2))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, synthesizer.synthesize(LONG, voice, settings(seed=8)))
    unseeded = [
        synthesizer.synthesize("Hi there, you.", voice, settings(seed=None)) for _ in range(2)
    ]
    assert not np.array_equal(*unseeded)


def test_same_seed_same_samples_with_others_at_work(made: Any) -> None:
    synthesizer, voice = made
    want = synthesizer.synthesize(LONG, voice, settings())
    got: list[Any] = []

    def one(seed: int) -> None:
        got.append((seed, synthesizer.synthesize(LONG, voice, settings(seed=seed))))

    threads = [threading.Thread(target=one, args=(seed,)) for seed in (7, 8, 7, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [np.array_equal(wave, want) for seed, wave in got if seed == 7] == [True, True]


def test_global_random_state_is_left_alone(made: Any) -> None:
    import torch

    synthesizer, voice = made
    torch.manual_seed(1)
    before = torch.get_rng_state()
    synthesizer.synthesize("Nothing to see here.", voice, settings())
    assert torch.equal(before, torch.get_rng_state())


def test_cancel_between_steps(made: Any) -> None:
    from f5_tts.fast.synthesizer import Cancelled

    synthesizer, voice = made
    steps: list[int] = []
    stream = synthesizer.stream(
        LONG, voice, settings(), progress=lambda: steps.append(1), cancelled=lambda: len(steps) == 2
    )
    with pytest.raises(Cancelled):
        list(stream)
    assert len(steps) == 2
    assert synthesizer.synthesize("Still here.", voice, settings()).size


def test_batch_gives_each_its_own(made: Any) -> None:
    synthesizer, _ = made
    voices = [synthesizer.voice(small.clip(n), 24000, small.TRANSCRIPT) for n in range(3)]
    texts = [
        "One short sentence.",
        "A second one, longer than the first.",
        "And the third of them.",
    ]
    together = synthesizer.batch(list(zip(texts, voices, strict=True)), settings(), seeds=[1, 2, 3])
    for text, voice, seed, got in zip(texts, voices, (1, 2, 3), together, strict=True):
        want = synthesizer.synthesize(text, voice, settings(seed=seed))
        assert got.shape == want.shape
        assert np.abs(got - want).max() < 1e-4 * np.abs(want).max()
    with pytest.raises(ValueError, match=r"needs .* chunks"):
        synthesizer.batch([(LONG * 3, voices[0])], settings())


def test_cross_fade_is_upstreams(newest: Path) -> None:
    from f5_tts.fast.audio import cross_fade, join

    rng = np.random.default_rng(0)
    waves = [rng.standard_normal(size).astype(np.float32) for size in (500, 90, 700, 40, 300)]
    final = waves[0]
    for wave in waves[1:]:
        n = min(100, len(final), len(wave))
        mixed = final[-n:] * np.linspace(1, 0, n) + wave[:n] * np.linspace(0, 1, n)
        final = np.concatenate([final[:-n], mixed, wave[n:]])
    np.testing.assert_allclose(join(cross_fade(iter(waves), 100)), final, atol=1e-6)
    assert np.array_equal(join(cross_fade(iter(waves), 0)), np.concatenate(waves))


def test_cross_fade_gives_out_all_but_the_overlap_at_once(newest: Path) -> None:
    from f5_tts.fast.audio import cross_fade

    asked: list[int] = []

    def source() -> Iterator[Any]:
        for number in range(3):
            asked.append(number)
            yield np.ones(1000, np.float32)

    first = next(cross_fade(source(), 100))
    assert (asked, first.size) == ([0], 900)


def test_fixed_duration(made: Any) -> None:
    synthesizer, voice = made
    wave = synthesizer.synthesize("One sentence.", voice, settings(fix_duration_s=5.0))
    assert wave.size / 24000 == pytest.approx(5.0 - voice.seconds, abs=0.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"nfe": 0}, "nfe is 0"),
        ({"speed": 0.0}, "speed is 0.0"),
        ({"cfg_strength": float("nan")}, "cfg_strength is nan"),
        ({"seed": -1}, "seed is -1"),
        ({"cross_fade_s": -1.0}, "cross_fade_s"),
        ({"sway": 5.0}, "sway is 5.0"),
    ],
)
def test_settings_out_of_range_are_named(
    newest: Path, values: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        settings(**values)


def test_empty_text_is_refused_before_anything_runs(made: Any) -> None:
    synthesizer, voice = made
    with pytest.raises(ValueError, match="the text is empty"):
        synthesizer.stream("  \n", voice, settings())


def test_loading_says_what_is_missing(newest: Path, tmp_path: Path) -> None:
    from f5_tts.fast.synthesizer import Synthesizer

    cases: list[tuple[dict[str, Any], str]] = [
        ({"ckpt_file": None}, "either ckpt_file or random_weights_seed"),
        ({"ckpt_file": tmp_path / "none.safetensors"}, "no checkpoint at"),
        ({"ckpt_file": None, "random_weights_seed": 1, "model": "Nope"}, "no model 'Nope'"),
        ({"ckpt_file": None, "random_weights_seed": 1, "model": "E2TTS_Base"}, "not DiT"),
        ({"ckpt_file": None, "random_weights_seed": 1, "dtype": "int8"}, "dtype 'int8'"),
        (
            {
                "ckpt_file": None,
                "random_weights_seed": 1,
                "model": {**small.ARCH, "qk_norm": "rms_norm"},
            },
            "qk_norm",
        ),
        (
            {"ckpt_file": None, "random_weights_seed": 1, "vocab_file": tmp_path / "v"},
            "no vocabulary",
        ),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            Synthesizer.load(**arguments)


def test_checkpoint_folded_and_read_again(newest: Path, tmp_path: Path) -> None:
    import torch
    from f5_tts.fast import arch, vocoder, weights
    from f5_tts.fast.synthesizer import Synthesizer
    from safetensors.torch import save_file

    state = weights.random_state(arch.from_mapping(small.ARCH), 2545, 1)
    ema = {f"ema_model.transformer.{name}": tensor for name, tensor in state.items()}
    save_file(
        {**ema, "initted": torch.ones(1), "step": torch.ones(1)},
        str(tmp_path / "model.safetensors"),
    )
    folder = tmp_path / "vocos"
    folder.mkdir()
    torch.save(vocoder.random_state(1, dim=64, hidden=128, layers=2), folder / "pytorch_model.bin")
    head = "head: {init_args: {n_fft: 1024, hop_length: 256, padding: center}}"
    (folder / "config.yaml").write_text(head)
    loaded = {
        "model": small.ARCH, "ckpt_file": tmp_path / "model.safetensors", "vocoder_dir": folder,
        "device": "cpu", "cache_dir": tmp_path / "cache",
    }  # fmt: skip
    waves = []
    for _ in range(2):
        synthesizer = Synthesizer.load(**loaded)
        voice = synthesizer.voice(small.clip(0), 24000, small.TRANSCRIPT)
        waves.append(synthesizer.synthesize("Hello out there.", voice, settings()))
    assert len(list((tmp_path / "cache").iterdir())) == 2
    assert np.array_equal(*waves)
    plain = small.synthesizer()
    voice = plain.voice(small.clip(0), 24000, small.TRANSCRIPT)
    assert np.array_equal(plain.synthesize("Hello out there.", voice, settings()), waves[0])


@pytest.mark.parametrize("left", ["nothing", "half", "another file"])
def test_a_folded_file_cut_short_is_made_again(newest: Path, tmp_path: Path, left: str) -> None:
    """What a box that lost power may have on its disk must not keep it from starting."""
    import torch
    from f5_tts.fast import arch, folded, weights
    from safetensors.torch import save_file

    sizes, cpu = arch.from_mapping(small.ARCH), torch.device("cpu")
    made: list[int] = []

    def make() -> Any:
        made.append(1)
        state = weights.random_state(sizes, 100, 1)
        return weights.fold(state, sizes, device=cpu, dtype=torch.float32)

    def load() -> dict[str, Any]:
        return folded.flatten(folded.load_or_fold(tmp_path, "key", sizes, cpu, make))

    first = load()
    assert load().keys() == first.keys() and len(made) == 1
    for name in ("key.safetensors", "key-time.safetensors"):
        path = tmp_path / name
        whole = path.read_bytes()
        if left == "another file":
            save_file({"layers.0.qkv_w": torch.ones(3)}, str(path))
        else:
            path.write_bytes(whole[: len(whole) // 2] if left == "half" else b"")
        again = load()
        assert all(torch.equal(again[key], value) for key, value in first.items())
        assert path.read_bytes() == whole
    assert len(made) == 3
    assert len(list(tmp_path.iterdir())) == 2


def test_a_full_disk_costs_the_file_and_not_the_start(
    newest: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    import torch
    from f5_tts.fast import arch, folded, weights

    sizes, cpu = arch.from_mapping(small.ARCH), torch.device("cpu")
    made = weights.fold(weights.random_state(sizes, 100, 1), sizes, device=cpu, dtype=torch.float32)
    (tmp_path / "file").write_text("no folder can be made here")
    got = folded.load_or_fold(tmp_path / "file" / "cache", "key", sizes, cpu, lambda: made)
    assert got is made
    assert "folded weights are not kept" in caplog.text


def test_nothing_heavy_is_imported(newest: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; sys.path[:0] = [sys.argv[1], sys.argv[2]]; import f5_small as small\n"
        "s = small.synthesizer(); v = s.voice(small.clip(0), 24000, small.TRANSCRIPT)\n"
        "from f5_tts.fast.synthesizer import SynthesisSettings\n"
        "s.synthesize('Hello out there.', v, SynthesisSettings())\n"
        "heavy = {'transformers', 'gradio', 'hydra', 'matplotlib', 'pydub', 'wandb', 'librosa'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    here = str(Path(small.__file__).parent)
    done = subprocess.run(
        [sys.executable, "-c", code, str(newest), here], capture_output=True, text=True
    )
    assert done.stdout.strip() == "[]", done.stderr
