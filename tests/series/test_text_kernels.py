"""The kernels around the steps, as far as no GPU is needed: they compile for every chip, and their
own source, run by the host, computes what plain torch computes."""

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

# Eight vectors of a half and sixteen of a float: a warp is not full. 1061 frames are over four
# rounds of a block of the response norm, and no multiple of anything.
CHANNELS, HIDDEN = 64, 128
# Two warps of a block, and the last not full.
WIDER = 200
Made = Callable[..., Any]


def built(target: str, sizes: dict[str, int], source: str | None = None) -> bytes:
    from f5_tts.fast import cuda_text, nvrtc

    try:
        nvrtc._library(nvrtc._nvrtc_names())
    except nvrtc.KernelsUnavailable as reason:
        pytest.skip(f"no NVRTC here: {reason}")
    return nvrtc.compiled(source or cuda_text.SOURCE, target, sizes, None)


@pytest.mark.parametrize("target", ["sm_80", "sm_87", "sm_90"])
def test_they_compile_for(newest: Path, target: str) -> None:
    """Within the registers that let a multiprocessor hold five blocks and more, and not a byte in
    local memory."""
    from f5_tts.fast import convnext

    text = cubin.needs(built(target, convnext.defines_for(512, 1024, torch.float16)))
    assert set(text) == set(convnext.NAMES)
    vocos = cubin.needs(built(target, convnext.defines_for(512, 0, torch.float32)))
    assert set(vocos) == set(convnext.NAMES[:3])
    wide = cubin.needs(built(target, convnext.defines_for(1024, 0, torch.float32)))
    for kernels in (text, vocos, wide):
        assert all(kernel.local == 0 for kernel in kernels.values())
        assert kernels["dw_norm"].registers <= 102


def test_a_spilled_register_is_seen(newest: Path) -> None:
    """What the test above rests on."""
    from f5_tts.fast import convnext, cuda_text

    right = "__launch_bounds__(32 * NORM_WARPS)"
    assert cuda_text.SOURCE.count(right) == 1
    source = cuda_text.SOURCE.replace(right, "__launch_bounds__(1024)")
    tight = built("sm_87", convnext.defines_for(512, 0, torch.float32), source)
    kernel = cubin.needs(tight)["dw_norm"]
    assert kernel.registers <= 64 and kernel.local > 0


def test_sizes_that_do_not_fit_are_refused(newest: Path) -> None:
    from f5_tts.fast import convnext, nvrtc

    for channels, hidden, kind in (
        (100, 200, torch.float16),
        (512, 1022, torch.float16),
        (2048, 4096, torch.float16),
        (1024, 8192, torch.float32),
        (512, 1024, torch.bfloat16),
    ):
        with pytest.raises(nvrtc.KernelsUnavailable, match="no kernels for"):
            convnext.defines_for(channels, hidden, kind)


@pytest.fixture(scope="module")
def made(newest: Path, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Kernels of a width and type, run by the host."""
    from f5_tts.fast import convnext, cuda_text

    kept: dict[Any, HostModule] = {}

    def make(channels: int, hidden: int, kind: torch.dtype, source: str | None = None) -> Any:
        key = (channels, hidden, kind, source)
        if key not in kept:
            names = convnext.NAMES if hidden else convnext.NAMES[:3]
            sizes = convnext.defines_for(channels, hidden, kind)
            folder = tmp_path_factory.mktemp("cuda")
            kept[key] = HostModule(source or cuda_text.KERNELS, sizes, names, folder)
        return convnext.ConvNext(kept[key], kind)

    return make


def test_halves_on_the_host_are_halves(newest: Path, tmp_path: Path) -> None:
    """What the other tests here rest on: every half, and floats rounded as torch does."""
    source = """
    extern "C" __global__ void halve(const float2 *from, u32 *to, float2 *back, int many) {
      const int at = blockIdx.x * blockDim.x + threadIdx.x;
      if (at >= many) return;
      to[at] = pack(from[at].x, from[at].y);
      unpack(to[at], back[at].x, back[at].y);
    }"""
    module = HostModule(source, {}, ["halve"], tmp_path)
    every = torch.arange(-32768, 32768).to(torch.int16).view(torch.float16).float()
    some = draw(100_000) * torch.exp(4 * draw(100_000, seed=1))
    for given in (torch.nan_to_num(every, nan=0.0), some):
        halves, back = torch.empty(given.numel(), dtype=torch.float16), torch.empty_like(given)
        pairs = given.numel() // 2
        module.launch("halve", (-(-pairs // 256), 1, 1), 256, given, halves, back, pairs)
        assert torch.equal(halves.view(torch.int16), given.half().view(torch.int16))
        assert torch.equal(back, given.half().float())


def text_ops(kind: torch.dtype, **arch: Any) -> Any:
    from f5_tts.fast import arch as arch_module
    from f5_tts.fast import weights
    from f5_tts.fast.ops import TorchOps

    sizes = arch_module.from_mapping({**small.ARCH, "depth": 1, "text_dim": CHANNELS, **arch})
    state = weights.random_state(sizes, 40, 3)
    return TorchOps(weights.fold(state, sizes, device=torch.device("cpu"), dtype=kind))


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def plain_dw_norm(x: Any, block: Any, keep: torch.Tensor) -> torch.Tensor:
    """As `embed` and `vocoder` define it, in fp64."""
    channels = x.shape[-1]
    conv, norm = torch.nn.functional.conv1d, torch.nn.functional.layer_norm
    x = torch.where(keep, x.double(), 0.0).transpose(1, 2)
    h = conv(x, block.dw_w.double(), block.dw_b.double(), padding=3, groups=channels)
    weight, bias = block.norm_w.double(), block.norm_b.double()
    return norm(h.transpose(1, 2), (channels,), weight, bias, 1e-6)


@pytest.mark.parametrize("frames", [1, 3, 4, 64, 131])
@pytest.mark.parametrize("channels", [CHANNELS, WIDER])
@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_convolution_with_norm(made: Made, kind: torch.dtype, channels: int, frames: int) -> None:
    """Edges of items side by side in memory, lengths of 1 and of all, what lies outside is NaN."""
    from f5_tts.fast.convnext import about_block

    kernels = made(channels, 2 * channels, kind)
    block = text_ops(kind, text_dim=channels)._weights.text_blocks[0]
    lengths = torch.tensor([frames, max(1, frames // 2), 1])
    symbols = torch.ones(3, frames, dtype=torch.int64)
    symbols[0, frames // 3 :: 2] = 0
    x = draw(6, frames, channels).to(kind)
    inside = torch.arange(frames) < lengths.unsqueeze(1)
    for given in (None, symbols):
        keep = inside if given is None else inside & (given > 0)
        keep = keep.repeat(2, 1).unsqueeze(-1)
        dirty = torch.where(keep, x, torch.full((), math.nan, dtype=kind))
        got = kernels.dw_norm(dirty, about_block(block), lengths, given)
        want = plain_dw_norm(x, block, keep)
        bound = {torch.float16: 1e-3, torch.float32: 1e-5}[kind]
        assert got.isfinite().all()
        assert small.relative(got.double(), want) < bound
        # The offset is added to every frame that counts, and to no other.
        offset = draw(channels, seed=5).to(kind)
        got = kernels.dw_norm(dirty, about_block(block, offset), lengths, given)
        want = plain_dw_norm(x.double() + offset.double(), block, keep)
        assert small.relative(got.double(), want) < bound


@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_a_frame_is_the_same_at_every_place_of_a_block(made: Made, kind: torch.dtype) -> None:
    from f5_tts.fast.convnext import about_block

    kernels, frames = made(WIDER, 2 * WIDER, kind), 40
    about = about_block(text_ops(kind, text_dim=WIDER)._weights.text_blocks[0])
    x = draw(1, frames, WIDER).to(kind)
    want = kernels.dw_norm(x, about, torch.tensor([frames]), None)
    for later in range(1, 5):
        moved = torch.cat((draw(1, later, WIDER, seed=later).to(kind), x), 1)
        got = kernels.dw_norm(moved, about, torch.tensor([frames + later]), None)
        assert torch.equal(got[:, later + 3 :], want[:, 3:])


@pytest.mark.parametrize("frames", [1, 9, 255, 1061])
@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_response_norm(made: Made, kind: torch.dtype, frames: int) -> None:
    kernels = made(CHANNELS, HIDDEN, kind)
    lengths = torch.tensor([frames, max(1, frames // 3)])
    h, grn = 3 * draw(4, frames, HIDDEN).to(kind), draw(2, HIDDEN, seed=1).to(kind)
    inside = (torch.arange(frames) < lengths.unsqueeze(1)).repeat(2, 1).unsqueeze(-1)
    clean = torch.where(inside, h, 0.0).double()
    energy = clean.square().sum(1, keepdim=True).sqrt()
    gamma, beta = grn.double()
    want = beta + clean * (gamma * energy / (energy.mean(-1, keepdim=True) + 1e-6) + 1)
    dirty = torch.where(inside, h, torch.full((), math.nan, dtype=kind))
    kernels.grn(dirty, grn, lengths)
    bound = {torch.float16: 1e-3, torch.float32: 1e-5}[kind]
    assert small.relative(dirty.double(), want) < bound


def test_loud_channels_do_not_overflow(made: Made) -> None:
    """Squares of halves, summed over a long text, are far beyond half precision."""
    kernels = made(CHANNELS, HIDDEN, torch.float16)
    h = torch.full((2, 1061, HIDDEN), 3e4, dtype=torch.float16)
    kernels.grn(h, torch.zeros(2, HIDDEN, dtype=torch.float16), torch.tensor([1061]))
    assert (h == 3e4).all()


@pytest.mark.parametrize("frames", [480, 512])
def test_a_longer_bucket_gives_the_same_bits(made: Made, frames: int) -> None:
    from f5_tts.fast.convnext import about_block

    kernels, lengths = made(CHANNELS, HIDDEN, torch.float16), torch.tensor([450])
    block = text_ops(torch.float16)._weights.text_blocks[0]
    x, h = draw(2, 512, CHANNELS).half(), draw(2, 512, HIDDEN, seed=1).half()
    grn = draw(2, HIDDEN, seed=2).half()
    exact = (x[:, :450].contiguous(), h[:, :450].contiguous())
    longer = (x[:, :frames].contiguous(), h[:, :frames].contiguous())
    results = []
    for one, two in (exact, longer):
        kernels.grn(two, grn, lengths)
        results.append((kernels.dw_norm(one, about_block(block), lengths, None), two))
    for short, long in zip(*results, strict=True):
        assert torch.equal(short, long[:, :450])


def widened(value: Any) -> Any:
    """Tensors, or blocks of them, in fp32."""
    if isinstance(value, torch.Tensor):
        return value.float()
    names = [field.name for field in dataclasses.fields(value[0])]
    blocks = [{name: getattr(block, name).float() for name in names} for block in value]
    return tuple(type(value[0])(**block) for block in blocks)


@pytest.mark.parametrize("mask", [True, False])
@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_the_text_encoder_is_the_plain_one(made: Made, kind: torch.dtype, mask: bool) -> None:
    """The whole encoder by the same judge that decides on a GPU, and by the tests' bounds."""
    from f5_tts.fast import embed, trial
    from f5_tts.fast.convnext import TextEncoder

    plain = text_ops(kind, text_mask_padding=mask)
    kernels = made(CHANNELS, HIDDEN, kind)
    encoder = TextEncoder(plain._weights, plain, kernels)
    assert trial.text(encoder, plain)
    tokens = torch.randint(1, 41, (3, 90), generator=torch.Generator().manual_seed(1))
    tokens[0, 40:], tokens[2, 20:25] = 0, 0
    lengths = torch.tensor([90, 33, 61])
    positions = embed.text_positions(CHANNELS, 90, torch.device("cpu")).to(kind)
    got, want = (ops(tokens, lengths, positions) for ops in (encoder, plain.text))
    full = text_ops(torch.float32, text_mask_padding=mask)
    given = {name: widened(getattr(plain._weights, name)) for name in ("text_table", "text_blocks")}
    full._weights = dataclasses.replace(full._weights, **given)
    exact = full.text(tokens, lengths, positions.float())
    for row in range(6):
        theirs = small.relative(want[row].float(), exact[row])
        assert small.relative(got[row].float(), exact[row]) < max(1.2 * theirs, 3e-4)
    # What counts for nothing is exactly nothing.
    assert torch.equal((got == 0).all(-1), (want == 0).all(-1))


def test_a_text_has_five_launches_a_block(made: Made) -> None:
    from f5_tts.fast import embed
    from f5_tts.fast.convnext import TextEncoder

    plain = text_ops(torch.float16)
    kernels = made(CHANNELS, HIDDEN, torch.float16)
    kernels._module.launched.clear()
    positions = embed.text_positions(CHANNELS, 8, torch.device("cpu")).half()
    tokens = torch.ones(1, 8, dtype=torch.int64)
    TextEncoder(plain._weights, plain, kernels)(tokens, torch.tensor([8]), positions)
    # And two products each, which the library or `gemm` runs.
    block = ["dw_norm", "grn_energy", "grn_scale"]
    assert kernels._module.launched == ["embed_text", *block, *block, "clear_frames"]


@pytest.mark.parametrize("tanh", [True, False])
def test_the_vocoder_is_the_plain_one(made: Made, tanh: bool) -> None:
    from f5_tts.fast import trial, vocoder
    from f5_tts.fast.convnext import VocosBlocks

    state = vocoder.random_state(4, dim=CHANNELS, hidden=HIDDEN, layers=3)
    w = vocoder.fold(state, hop=256, padding="center", device=torch.device("cpu"))
    blocks = VocosBlocks(w, made(CHANNELS, 0, torch.float32), tanh=tanh)
    assert trial.vocos(blocks, w)
    mel = draw(2, 70, 100)
    lengths = torch.tensor([70, 41])
    want = vocoder.decode(w, mel, lengths)
    mel[1, 41:] = math.nan
    got = vocoder.decode(w, mel, lengths, blocks)
    for row, frames in enumerate(lengths.tolist()):
        samples = vocoder.samples_for(w, frames)
        distance = small.relative(got[row, :samples], want[row, :samples])
        # GELU's tanh form where it is wanted, and only there.
        assert distance < 1e-3 if tanh else distance < 2e-6


SPOILED = {
    "what counts is a frame too far": ("first + lane - 3", "first + lane - 2"),
    "a tap of another frame": ("first + r - 3", "first + r - 4"),
    "the neighbour's frames": ("frame >= lengths[item]", "frame > lengths[item]"),
    "a norm of half a row": ("for (int d = 4; d > 0", "for (int d = 2; d > 0"),
    "a norm of the next frame": ("(odd ? b : a)", "(odd ? a : b)"),
    "a norm without a warp": ("w < NORM_WARPS; w++", "w < NORM_WARPS - 1; w++"),
    "deviation from zero": ("fmaf(mean[n], -1.f / CHANNELS, f[n][j])", "f[n][j]"),
    "the last frame read": ("n < frames ? n : frames - 1", "n < frames - 1 ? n : frames - 2"),
    "responses of half a row": ("for (int d = 16; d > 0", "for (int d = 8; d > 0"),
    "a warp that is left out": ("w < 16; w++", "w < 15; w++"),
    "one round of frames": ("n < length; n += 256", "n < length; n += 1 << 20"),
    "a tail not scaled": ("piece < left * HIDDEN_VECTORS", "piece < (left - 1) * HIDDEN_VECTORS"),
    "frames outside counted": ("valid < frames ? (int)valid : frames", "frames"),
    "one position for all": ("positions[(size_t)frame", "positions[(size_t)item"),
    "text in both halves": ("row < items ? tokens", "row < rows ? tokens"),
    "frames not cleared": (
        "frames)) x[at] = make_uint4(0, 0, 0, 0);\n}",
        "frames)) x[at] = x[at];\n}",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", SPOILED)
def test_a_wrong_kernel_is_not_used(made: Made, fault: str) -> None:
    """The judge, before kernels that are each wrong in one place."""
    from f5_tts.fast import cuda_text, trial
    from f5_tts.fast.convnext import TextEncoder

    right, wrong = SPOILED[fault]
    assert cuda_text.KERNELS.count(right) == 1, "the source has changed; change the fault"
    channels = WIDER if "NORM_WARPS" in right else CHANNELS
    plain = text_ops(torch.float16, text_dim=channels)
    source = cuda_text.KERNELS.replace(right, wrong)
    kernels = made(channels, 2 * channels, torch.float16, source)
    assert not trial.text(TextEncoder(plain._weights, plain, kernels), plain)


def test_a_wrong_vocoder_is_not_used(newest: Path) -> None:
    """One frame too many counts, and so does one frame too late, and nothing at all."""
    from f5_tts.fast import trial, vocoder

    state = vocoder.random_state(4, dim=CHANNELS, hidden=HIDDEN, layers=2)
    w = vocoder.fold(state, hop=256, padding="center", device=torch.device("cpu"))

    def run(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        return vocoder.backbone(w, x, vocoder.within(lengths, x.shape[1]))

    assert trial.vocos(run, w)
    assert not trial.vocos(lambda x, lengths: run(x, lengths + 1), w)
    assert not trial.vocos(lambda x, lengths: run(x.roll(1, dims=1), lengths).roll(-1, dims=1), w)
    assert not trial.vocos(lambda x, lengths: x, w)
