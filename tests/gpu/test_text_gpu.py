"""The kernels around the steps on a real GPU: each against fp64, the whole against plain torch.

Needs CUDA; nothing of upstream."""

from __future__ import annotations

import dataclasses
import itertools
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.gpu
torch = pytest.importorskip("torch", reason="torch is not installed")
if not torch.cuda.is_available():
    pytest.skip("no CUDA device", allow_module_level=True)

SOURCE = Path(
    os.environ.get("F5_SOURCE") or Path(__file__).parents[2] / "patches/f5-tts/files/src"
).resolve()
CHANNELS, HIDDEN = 512, 1024
BOUND = {torch.float16: 5e-4, torch.float32: 1e-5}
FRAMES = (1, 7, 64, 480, 1312, 2112)


@pytest.fixture(scope="module", autouse=True)
def _importable() -> Iterator[None]:
    sys.path.insert(0, str(SOURCE))
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = True
    sys.path.remove(str(SOURCE))


def relative(got: Any, want: Any) -> float:
    return float(torch.linalg.vector_norm(got.double() - want) / torch.linalg.vector_norm(want))


def draw(*shape: int, seed: int = 0) -> Any:
    generator = torch.Generator("cuda").manual_seed(seed)
    return torch.randn(*shape, generator=generator, device="cuda")


@pytest.fixture(scope="module")
def ops() -> Any:
    """Our operators of the whole text encoder's width, plain torch in fp16, and in fp32."""
    from f5_tts.fast import arch, weights
    from f5_tts.fast.kernels import FusedOps
    from f5_tts.fast.ops import TorchOps

    sizes = arch.from_mapping(
        {"dim": 1024, "depth": 1, "heads": 16, "ff_mult": 2, "text_dim": CHANNELS, "conv_layers": 4}
    )
    state = weights.random_state(sizes, 100, 1)
    for name in [name for name in state if "grn" in name]:
        state[name] = 20 * state[name]  # as large as trained ones, so that faults show
    device = torch.device("cuda")
    half = weights.fold(state, sizes, device=device, dtype=torch.float16)
    full = weights.fold(
        {k: v.half().float() for k, v in state.items()}, sizes, device=device, dtype=torch.float32
    )
    return FusedOps(half), TorchOps(half), TorchOps(full)


@pytest.fixture(scope="module")
def vocos() -> Any:
    from f5_tts.fast import vocoder

    state = vocoder.random_state(1)
    return vocoder.fold(state, hop=256, padding="center", device=torch.device("cuda"))


def masks(frames: int) -> Any:
    """Lengths of all frames, half of them and one; symbols with gaps; who counts, with and
    without them, over two sets of rows."""
    lengths = torch.tensor([frames, max(1, frames // 2), 1], device="cuda")
    symbols = torch.ones(3, frames, dtype=torch.int64, device="cuda")
    symbols[0, frames // 3 :: 2] = 0
    inside = torch.arange(frames, device="cuda") < lengths.unsqueeze(1)
    with_gaps = inside & (symbols > 0)
    return lengths, [
        (given, keep.repeat(2, 1).unsqueeze(-1))
        for given, keep in ((None, inside), (symbols, with_gaps))
    ]


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_convolution_with_norm(ops: Any, kind: Any, frames: int) -> None:
    from f5_tts.fast import convnext

    kernels = convnext.build(CHANNELS, HIDDEN, kind, torch.device("cuda"), None)
    conv, layer_norm = torch.nn.functional.conv1d, torch.nn.functional.layer_norm
    x, about = draw(6, frames, CHANNELS).to(kind), draw(11, CHANNELS, seed=1).to(kind)
    taps, bias, weight, shift, offset = about.double().split((7, 1, 1, 1, 1))
    lengths, cases = masks(frames)
    for symbols, keep in cases:
        dirty = torch.where(keep, x, torch.full((), math.nan, dtype=kind, device="cuda"))
        got = kernels.dw_norm(dirty, about, lengths, symbols)
        clean = torch.where(keep, x.double() + offset, 0.0).transpose(1, 2)
        h = conv(clean, taps.t().unsqueeze(1), bias[0], padding=3, groups=CHANNELS)
        want = layer_norm(h.transpose(1, 2), (CHANNELS,), weight[0], shift[0], 1e-6)
        assert relative(got, want) < BOUND[kind]


@pytest.mark.parametrize("channels", [200, CHANNELS, 1024])
@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_a_frame_has_the_same_bits_wherever_it_is(ops: Any, kind: Any, channels: int) -> None:
    """At every place of a block, in every row, in a longer bucket."""
    from f5_tts.fast import convnext

    kernels, frames = convnext.build(channels, 0, kind, torch.device("cuda"), None), 490
    x, about = draw(1, frames, channels).to(kind), draw(11, channels, seed=1).to(kind)
    want = kernels.dw_norm(x, about, torch.tensor([frames], device="cuda"), None)
    for later in range(5):
        before = draw(2, later, channels, seed=later).to(kind)
        behind = torch.full((2, 3 * later, channels), math.nan, dtype=kind, device="cuda")
        moved = torch.cat((before, x.expand(2, -1, -1), behind), 1)
        lengths = torch.tensor([later + frames], device="cuda").expand(2).contiguous()
        got = kernels.dw_norm(moved, about, lengths, None)[:, later : later + frames]
        first = 3 if later else 0
        assert torch.equal(got[:, first:], want.expand(2, -1, -1)[:, first:])


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_response_norm(ops: Any, kind: Any, frames: int) -> None:
    from f5_tts.fast import convnext

    kernels = convnext.build(CHANNELS, HIDDEN, kind, torch.device("cuda"), None)
    h, grn = draw(6, frames, HIDDEN), draw(2, HIDDEN, seed=1).to(kind)
    # Every channel loud in few frames, so that each of them counts.
    loud = torch.arange(frames, device="cuda").unsqueeze(1) % HIDDEN
    h = torch.where(loud == torch.arange(HIDDEN, device="cuda"), 16 * h, h).to(kind)
    lengths, ((_, inside), _) = masks(frames)
    clean = torch.where(inside, h, 0.0).double()
    energy = clean.square().sum(1, keepdim=True).sqrt()
    gamma, beta = grn.double()
    want = beta + clean * (gamma * energy / (energy.mean(-1, keepdim=True) + 1e-6) + 1)
    dirty = torch.where(inside, h, torch.full((), math.nan, dtype=kind, device="cuda"))
    kernels.grn(dirty, grn, lengths)
    assert relative(dirty, want) < BOUND[kind]


def text_of(items: int, frames: int, dtype: Any, seed: int = 1) -> Any:
    from f5_tts.fast import embed

    generator = torch.Generator("cuda").manual_seed(seed)
    tokens = torch.randint(1, 101, (items, frames), generator=generator, device="cuda")
    tokens[0, frames // 3 :] = 0
    lengths = torch.tensor([frames, frames // 2, 1, frames - 5][:items], device="cuda")
    positions = embed.text_positions(CHANNELS, frames, torch.device("cuda")).to(dtype)
    return tokens, lengths.clamp(min=1), positions


@pytest.mark.parametrize(
    ("items", "frames"), [(1, 64), (1, 480), (1, 1344), (4, 480), (2, 2112), (4, 4096)]
)
def test_the_text_encoder(ops: Any, items: int, frames: int) -> None:
    """As near to fp32 as plain fp16 is, with our products and with the library's."""
    own, plain, exact = ops
    assert own._text is not None and own.missing == ()
    tokens, lengths, positions = text_of(items, frames, torch.float16)
    want = exact.text(tokens, lengths, positions.float())
    theirs = plain.text(tokens, lengths, positions)
    gemm = own._gemm
    for products in {gemm, None}:
        own._gemm = products
        try:
            got = own.text(tokens, lengths, positions)
        finally:
            own._gemm = gemm
        for row in range(2 * items):
            bound = max(1.5 * relative(theirs[row], want[row].double()), 8e-4)
            assert relative(got[row], want[row].double()) < bound
            assert torch.equal((got[row] == 0).all(-1), (want[row] == 0).all(-1))


def test_captured_it_is_the_same(ops: Any) -> None:
    """Nothing waits, nothing is looked up, and a graph replays what a call gives, bit for bit."""
    from f5_tts.fast.plan import Recorded

    own = ops[0]
    tokens, lengths, positions = text_of(2, 480, torch.float16)
    out = torch.empty(4, 480, CHANNELS, dtype=torch.float16, device="cuda")
    with torch.inference_mode():
        recorded = Recorded(
            lambda: out.copy_(own.text(tokens, lengths, positions)), torch.cuda.graph_pool_handle()
        )
        assert recorded.captured
        for seed in (2, 3):
            other, _, _ = text_of(2, 480, torch.float16, seed)
            tokens.copy_(other)
            lengths.copy_(torch.tensor([100 * seed, 480]))
            want = own.text(tokens, lengths, positions)
            out.fill_(math.nan)
            recorded()
            assert torch.equal(out, want)


@pytest.mark.parametrize(("items", "frames"), [(1, 64), (1, 1312), (4, 480)])
def test_the_vocoder(vocos: Any, items: int, frames: int) -> None:
    from f5_tts.fast import convnext, istft, vocoder

    inverse = istft.inverse_stft(vocos, None)
    lengths = torch.tensor([frames, frames // 2, 5, frames - 1][:items], device="cuda")
    mel = 2 * draw(items, frames, 100) - 2
    with torch.inference_mode():
        want = vocoder.decode(vocos, mel, lengths)
        for item, length in enumerate(lengths.tolist()):
            mel[item, length:] = math.nan
        # fp32 throughout; and what is used: TF32 and GELU's tanh form, 54 dB at the least.
        for fast, bound in ((False, 2e-5), (True, 2e-3)):
            blocks = convnext.vocos_blocks(vocos, None, tanh=fast)
            with vocoder.fp32_products(tf32=fast):
                waves = [vocoder.decode(vocos, mel, lengths, blocks, i) for i in (None, inverse)]
            for item, length in enumerate(lengths.tolist()):
                samples = vocoder.samples_for(vocos, length)
                for got in waves:
                    assert relative(got[item, :samples], want[item, :samples].double()) < bound


def spectrum(frames: int, items: int = 3) -> Any:
    """As the head may give it: magnitudes of which some are too large, phases of many turns."""
    given = draw(items, frames, 1026)
    given[..., :513] *= 2
    given[..., 513:] *= 40
    given[0, 0, 514] = 3e5  # beyond what is reduced in a few multiplications
    return given


@pytest.mark.parametrize("frames", FRAMES)
@pytest.mark.parametrize("padding", ["center", "same"])
def test_the_inverse_transform(vocos: Any, padding: str, frames: int) -> None:
    """As near to fp64 as plain torch is; what lies outside is NaN."""
    from f5_tts.fast import istft, vocoder

    w = dataclasses.replace(vocos, padding=padding)
    wide = dataclasses.replace(w, window=w.window.double())
    own, given = istft.inverse_stft(w, None), spectrum(frames)
    lengths = torch.tensor([frames, max(1, frames // 2), 1], device="cuda")
    inside = vocoder.within(lengths, frames)
    want = vocoder.inverse_stft(wide, *vocoder.polar(given.double()), inside.double())
    theirs = vocoder.inverse_stft(w, *vocoder.polar(given), inside)
    got = own(torch.where(inside > 0, given, math.nan), lengths)
    assert got.shape == want.shape and got.isfinite().all()
    for item, length in enumerate(lengths.tolist()):
        samples = vocoder.samples_for(w, length)
        if samples:
            bound = 1.5 * relative(theirs[item, :samples], want[item, :samples]) + 1e-7
            assert relative(got[item, :samples], want[item, :samples]) < min(bound, 1e-5)


def test_samples_have_the_same_bits_in_a_longer_bucket(vocos: Any) -> None:
    """Of both kernels by themselves: what the library's transform does is the library's."""
    from f5_tts.fast import istft

    module, frames = istft.inverse_stft(vocos, None)._module, 451
    lengths, results = torch.tensor([frames], device="cuda"), []
    given, pieces = spectrum(512, items=1), draw(1, 512, 1024, seed=1)
    for bucket in (frames, 480, 512):
        head, parts = given[:, :bucket].contiguous(), pieces[:, :bucket].contiguous()
        bins = torch.empty(1, bucket, 513, dtype=torch.complex64, device="cuda")
        wave = torch.empty(1, 256 * (bucket - 1), device="cuda")
        many, vectors = -(-bucket * 513 // 256), wave.shape[1] // 4
        module.launch("head_bins", (many, 1, 1), 256, head, bins, bucket)
        module.launch(
            "overlap_add", (-(-vectors // 256), 1, 1), 256,
            parts, vocos.window, lengths, wave, bucket, vectors,
        )  # fmt: skip
        results.append((bins[:, :frames], wave[:, : 256 * (frames - 1)]))
    for bins, wave in results[1:]:
        assert torch.equal(torch.view_as_real(bins), torch.view_as_real(results[0][0]))
        assert torch.equal(wave, results[0][1])


def test_a_captured_vocoder_is_the_same(vocos: Any) -> None:
    """A plan's graph, which writes into the plan's own samples, gives what a call gives."""
    from f5_tts.fast import convnext, istft, vocoder
    from f5_tts.fast.plan import VocoderPlan

    inverse = istft.inverse_stft(vocos, None)
    blocks = convnext.vocos_blocks(vocos, None, tanh=True)
    with torch.inference_mode():
        pool = torch.cuda.graph_pool_handle()
        plan = VocoderPlan(vocos, 480, 2, 100, pool, tf32=True, blocks=blocks, inverse=inverse)
        assert plan.captured
        for held in ((480, 100), (7, 333)):
            mels = [2 * draw(length, 100, seed=length) - 2 for length in held]
            waves = [wave.clone() for wave in plan(mels)]
            with vocoder.fp32_products(tf32=True):
                want = vocoder.decode(vocos, plan._mel, plan._lengths, blocks, inverse)
            for item, wave in enumerate(waves):
                assert wave.shape[0] == vocoder.samples_for(vocos, held[item])
                assert torch.equal(wave, want[item, : wave.shape[0]])


def test_the_trials_pass_what_is_right(ops: Any, vocos: Any) -> None:
    from f5_tts.fast import convnext, istft, trial

    own, plain, _ = ops
    assert trial.text(own._text, plain)
    for padding in ("center", "same"):
        w = dataclasses.replace(vocos, padding=padding)
        assert trial.inverse(istft.inverse_stft(w, None), w)
    for tanh in (True, False):
        assert trial.vocos(convnext.vocos_blocks(vocos, None, tanh=tanh), vocos)


def test_code_that_cannot_be_loaded_is_plain_torch(
    ops: Any, vocos: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Text encoder, the vocoder's blocks and its inverse STFT each by themselves, with one sentence
    each; the rest stays."""
    from f5_tts.fast import convnext, cuda_istft, cuda_text, istft, nvrtc
    from f5_tts.fast.engine import Engine
    from f5_tts.fast.switches import Switches

    weights = ops[1]._weights
    major, minor = torch.cuda.get_device_capability()
    sizes = (
        convnext.defines_for(CHANNELS, HIDDEN, torch.float16),
        convnext.defines_for(CHANNELS, 0, torch.float32),
    )
    for size in sizes:
        nvrtc.compiled(cuda_text.SOURCE, f"sm_{major}{minor}", size, tmp_path)
    size = istft.defines_for(vocos)
    nvrtc.compiled(cuda_istft.SOURCE, f"sm_{major}{minor}", size, tmp_path)
    for path in tmp_path.glob("*.cubin"):
        path.unlink()
        nvrtc._keep(path, b"no machine code" * 100)
    engine = Engine(weights, vocos, Switches(), cache_dir=tmp_path)
    assert engine.machine.ops.fused and engine.machine.ops._text is None
    assert engine._vocos_blocks is None and engine._vocos_inverse is None
    missing = [line.partition(":")[0] for line in engine.machine.ops.missing]
    assert missing == ["text encoder", "vocoder", "inverse STFT"]
    assert len([r for r in caplog.records if "which costs time" in r.getMessage()]) == 3


def test_samples_arrive_whole(vocos: Any) -> None:
    """The kept page-locked memory: short after long, several at once, and none is written over."""
    import numpy as np
    from f5_tts.fast.outbox import Outbox

    outbox = Outbox()
    sizes = [(1000,), (300_000, 5, 70_000), (12,), (299_999,)]
    given = [[draw(size, seed=size) for size in several] for several in sizes]
    got = [outbox(several) for several in given]
    for wave, want in zip(itertools.chain(*got), itertools.chain(*given), strict=True):
        assert np.array_equal(wave, want.cpu().numpy())
