"""The kernels around the vocoder's inverse FFT, as far as no GPU is needed: they compile for every
chip, and their own source, run by the host, computes what plain torch computes."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cubin
import f5_small as small
import pytest
import torch
from cuda_on_host import HostModule

CHANNELS, BINS = 64, 513
Made = Callable[..., Any]
PADDINGS = ("center", "same")


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def weights(padding: str = "center") -> Any:
    from f5_tts.fast import vocoder

    state = vocoder.random_state(4, dim=CHANNELS, hidden=2 * CHANNELS, layers=2)
    return vocoder.fold(state, hop=256, padding=padding, device=torch.device("cpu"))


@pytest.fixture(scope="module")
def made(newest: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The inverse transform of a vocoder, its kernels run by the host."""
    from f5_tts.fast import cuda_istft, istft

    kept: dict[Any, HostModule] = {}

    def make(w: Any, source: str = cuda_istft.SOURCE) -> Any:
        key = (w.padding, source)
        if key not in kept:
            folder = tmp_path_factory.mktemp("cuda")
            kept[key] = HostModule(source, istft.defines_for(w), istft.NAMES, folder)
        return istft.InverseStft(w, kept[key])

    return make


@pytest.mark.parametrize("target", ["sm_80", "sm_87", "sm_90"])
def test_they_compile_for(newest: Path, target: str) -> None:
    """No register in local memory: what `sincosf` keeps there is for angles beyond 100,000."""
    from f5_tts.fast import cuda_istft, istft, nvrtc

    try:
        nvrtc._library(nvrtc._nvrtc_names())
    except nvrtc.KernelsUnavailable as reason:
        pytest.skip(f"no NVRTC here: {reason}")
    code = nvrtc.compiled(cuda_istft.SOURCE, target, istft.defines_for(weights()), None)
    kernels = cubin.needs(code)
    assert set(kernels) == set(istft.NAMES)
    assert kernels["head_bins"].registers <= 32 and kernels["head_bins"].local <= 32
    assert kernels["overlap_add"].registers <= 42 and kernels["overlap_add"].local == 0


def test_sizes_that_do_not_fit_are_refused(newest: Path) -> None:
    from f5_tts.fast import istft, nvrtc

    for hop, window in ((12, 48), (256, 512)):
        w = dataclasses.replace(weights(), hop=hop, window=torch.hann_window(window))
        with pytest.raises(nvrtc.KernelsUnavailable, match="no kernels for windows"):
            istft.defines_for(w)


def spectrum(items: int, frames: int) -> torch.Tensor:
    """As the head may give it: magnitudes of which some are too large, phases of many turns, and
    values that must not become what is no number: nothing, infinity."""
    given = draw(items, frames, 2 * BINS)
    given[..., :BINS] *= 2
    given[..., BINS:] *= 40
    given[0, 0, 1], given[0, 0, 2] = 200.0, -200.0
    given[0, 0, BINS], given[0, 0, BINS + 1] = 0.0, 3e4
    return given


def exact(w: Any, given: torch.Tensor, inside: torch.Tensor) -> torch.Tensor:
    """As `vocoder` defines it, in fp64."""
    from f5_tts.fast import vocoder

    wide = dataclasses.replace(w, window=w.window.double())
    magnitude, phase = vocoder.polar(given.double())
    wave: torch.Tensor = vocoder.inverse_stft(wide, magnitude, phase, inside.double())
    return wave


@pytest.mark.parametrize("frames", [1, 2, 5, 131])
@pytest.mark.parametrize("padding", PADDINGS)
def test_the_inverse_transform(made: Made, padding: str, frames: int) -> None:
    """Lengths of all frames, of half and of one; what lies outside is NaN, or infinite."""
    from f5_tts.fast import vocoder

    w = weights(padding)
    own = made(w)
    lengths = torch.tensor([frames, max(1, frames // 2), 1])
    inside = vocoder.within(lengths, frames)
    given = spectrum(3, frames)
    want = exact(w, given, inside)
    plain = vocoder.inverse_stft(w, *vocoder.polar(given), inside)
    for outside in (math.nan, math.inf):
        got = own(torch.where(inside > 0, given, outside), lengths)
        assert got.shape == want.shape and got.dtype == torch.float32
        for row, length in enumerate(lengths.tolist()):
            samples = vocoder.samples_for(w, length)
            # Where nothing of an item is left there is silence; what is nearly nothing is divided
            # by what is nearly nothing, and belongs to no item.
            assert got[row].isfinite().all()
            assert torch.equal(got[row] == 0, plain[row] == 0)
            if samples:
                distance = small.relative(got[row, :samples].double(), want[row, :samples])
                assert distance < 1e-6
                theirs = small.relative(plain[row, :samples].double(), want[row, :samples])
                assert distance < 1.5 * theirs + 1e-7


def test_the_bins_are_torchs(made: Made) -> None:
    """One by one: a loud bin does not hide a quiet one. Angles far beyond a turn are reduced; the
    first and the last are real."""
    from f5_tts.fast import vocoder

    module = made(weights())._module
    given, bins = spectrum(2, 7), torch.empty(2, 7, BINS, dtype=torch.complex64)
    module.launch("head_bins", (-(-14 * BINS // 256), 1, 1), 256, given, bins, 14)
    magnitude, phase = vocoder.polar(given)
    want = torch.polar(magnitude.double(), phase.double())
    want.imag[..., :: BINS - 1] = 0.0
    assert not bins.imag[..., :: BINS - 1].any()
    assert ((bins - want).abs() <= 3e-7 * want.abs() + 1e-37).all()
    assert bins.abs().max() <= 100.001


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_longer_bucket_gives_the_same_bits(made: Made, padding: str) -> None:
    from f5_tts.fast import vocoder

    w = weights(padding)
    own, given = made(w), spectrum(1, 64)
    samples = vocoder.samples_for(w, 45)
    want = own(given[:, :45].contiguous(), torch.tensor([45]))
    assert want.shape == (1, samples)
    for frames in (46, 64):
        got = own(given[:, :frames].contiguous(), torch.tensor([45]))
        assert torch.equal(got[:, :samples], want)


def test_samples_go_where_they_are_wanted(made: Made) -> None:
    """Two launches, and no copy behind them."""
    from f5_tts.fast import vocoder

    w = weights()
    own, mel, lengths = made(w), draw(2, 30, 100), torch.tensor([30, 11])
    want = vocoder.decode(w, mel, lengths)
    for inverse in (None, own):
        out = torch.full_like(want, math.nan)
        own._module.launched.clear()
        got = vocoder.decode(w, mel, lengths, None, inverse, out)
        assert got.data_ptr() == out.data_ptr()
        assert own._module.launched == ([] if inverse is None else ["head_bins", "overlap_add"])
        for row, length in enumerate(lengths.tolist()):
            samples = vocoder.samples_for(w, length)
            assert small.relative(out[row, :samples], want[row, :samples]) < 1e-6


def test_a_plan_decodes_with_it(made: Made) -> None:
    """Through the engine's own plan, several mels, shorter ones after longer."""
    from f5_tts.fast import vocoder
    from f5_tts.fast.plan import VocoderPlan

    w = weights()
    plan = VocoderPlan(w, 40, 2, 100, None, inverse=made(w))
    for lengths in ((40, 17), (3, 25)):
        mels = [draw(length, 100, seed=length) for length in lengths]
        for mel, wave in zip(mels, plan(mels), strict=True):
            want = vocoder.decode(w, mel.unsqueeze(0), torch.tensor([mel.shape[0]]))[0]
            assert wave.shape == want.shape
            assert small.relative(wave, want) < 1e-6


@pytest.mark.parametrize("padding", PADDINGS)
def test_the_trial_passes_what_is_right(made: Made, padding: str) -> None:
    from f5_tts.fast import trial

    w = weights(padding)
    assert trial.inverse(made(w), w)


SPOILED = {
    "no limit": ("size > MOST ? (float)MOST : size", "size"),
    "phase of the next bin": ("from[BINS]", "from[BINS - 1]"),
    "sine for cosine": ("sincosf(phase, &sine, &cosine)", "sincosf(phase, &cosine, &sine)"),
    "a frame that is left out": ("n >= length)", "n >= length - 1)"),
    "a frame too many": ("n >= length)", "n > length)"),
    "the length of another": ("lengths[item]", "lengths[0]"),
    "frames of the first item": ("(size_t)item * frames * HOP", "(size_t)0 * HOP"),
    "a quarter of a window off": ("window[i * (HOP / 4)", "window[(3 - i) * (HOP / 4)"),
    "one vector late": ("at + TRIM / 4", "at + 1 + TRIM / 4"),
    "a frame of four not added": ("n < 0 || n >= length", "n < 0 || i == 3 || n >= length"),
    "the last frame read": ("n < frames ? n : frames - 1", "n < frames - 1 ? n : frames - 2"),
    "not divided": ("energy[j] > 1e-11f ? energy[j] : 1.f", "1.f"),
    "not scaled": ("1.f / (4 * HOP)", "1.f / HOP"),
    "the last samples missing": ("at >= vectors)", "at >= vectors - 16)"),
}  # fmt: skip


@pytest.mark.parametrize("fault", SPOILED)
def test_a_wrong_kernel_is_not_used(made: Made, fault: str) -> None:
    """The judge, before kernels that are each wrong in one place."""
    from f5_tts.fast import cuda_istft, trial

    right, wrong = SPOILED[fault]
    assert cuda_istft.SOURCE.count(right) == 1, "the source has changed; change the fault"
    w = weights()
    assert not trial.inverse(made(w, cuda_istft.SOURCE.replace(right, wrong)), w)


def test_an_engine_says_which_part_is_plain(newest: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be made and what is wrong: one sentence each, among what is missing."""
    from f5_tts.fast import arch, engine, nvrtc
    from f5_tts.fast import weights as fast_weights
    from f5_tts.fast.ops import TorchOps

    def cannot(w: Any) -> Any:
        raise nvrtc.KernelsUnavailable("no NVRTC\nand more")

    sizes = arch.from_mapping({**small.ARCH, "depth": 1})
    state = fast_weights.random_state(sizes, 40, 3)
    device = torch.device("cpu")
    ops = TorchOps(fast_weights.fold(state, sizes, device=device, dtype=torch.float32))
    w = weights()
    assert engine._where_right(lambda w: ("made", True), w, "vocoder", ops) == "made"
    assert ops.missing == () and not caplog.records
    assert engine._where_right(lambda w: ("made", False), w, "inverse STFT", ops) is None
    assert engine._where_right(cannot, w, "vocoder", ops) is None
    assert ops.missing == ("inverse STFT: it computes wrongly here", "vocoder: no NVRTC")
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2 and "kernels of the inverse STFT: it computes wrongly" in told[0]


def test_its_bytes_are_counted(newest: Path) -> None:
    """By the real module's rule: each operand once."""
    from f5_tts.fast import count, istft

    class Counting:
        def launch(self, name: str, *rest: Any, work: Any = None) -> None:
            given = [value for value in rest if isinstance(value, torch.Tensor)]
            count.fused(name, given, (), work)

    w, given, lengths = weights(), spectrum(1, 10), torch.tensor([10])
    with torch.inference_mode(), count.watching() as tally:
        out = istft.InverseStft(w, Counting())(given, lengths)
    assert tally.launches == 3 and tally.names["head_bins"] == tally.names["overlap_add"] == 1
    bins, pieces = 10 * BINS * 8, 10 * w.n_fft * 4
    around = count.size(given) + count.size(w.window) + count.size(lengths) + count.size(out)
    assert tally.moved == around + 2 * (bins + pieces)
