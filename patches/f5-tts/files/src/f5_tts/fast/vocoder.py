"""Vocos: mel to waveform, in fp32, exact within buckets and free of host synchronisation.

`torch.istft` checks its window on the host, which stalls the stream and cannot be captured in a
CUDA graph. Here the inverse transform is an inverse FFT, four shifted sums (the hop is a quarter
of the window) and a division by the window envelope: the definition that `istft` is held against.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

NORM_EPS = 1e-6
MAX_MAGNITUDE = 1e2


# What `backbone` computes, from (items, frames, channels), which it may write over, and lengths.
Blocks = Callable[[Tensor, Tensor], Tensor]


class Inverse(Protocol):
    """What `polar` and `inverse_stft` compute: from the head's output (items, frames, 2 * bins) and
    lengths to samples, in `out` where it is given."""

    def __call__(self, head: Tensor, lengths: Tensor, out: Tensor | None = None) -> Tensor: ...


class UnsupportedVocoder(ValueError):
    """A vocoder this package does not restructure."""


@dataclass(frozen=True)
class VocosBlock:
    """One ConvNeXt block; its layer scale is in its last matrix and bias."""

    dw_w: Tensor
    dw_b: Tensor
    norm_w: Tensor
    norm_b: Tensor
    up_w: Tensor
    up_b: Tensor
    down_w: Tensor
    down_b: Tensor


@dataclass(frozen=True)
class VocosWeights:
    """Parameters of Vocos' ConvNeXt backbone and its inverse-STFT head, in fp32."""

    embed_w: Tensor
    embed_b: Tensor
    norm_w: Tensor
    norm_b: Tensor
    blocks: tuple[VocosBlock, ...]
    last_w: Tensor
    last_b: Tensor
    out_w: Tensor
    out_b: Tensor
    window: Tensor
    hop: int
    padding: str

    @property
    def n_fft(self) -> int:
        return self.window.shape[0]


def fold(
    state: Mapping[str, Tensor], *, hop: int, padding: str, device: torch.device
) -> VocosWeights:
    """Folded weights from a Vocos module's parameters (names as in the vocos package)."""

    def take(name: str) -> Tensor:
        if name not in state:
            raise UnsupportedVocoder(
                f"the vocoder has no {name}; f5_tts.fast knows vocos-mel-24khz"
            )
        return state[name].detach().to(device=device, dtype=torch.float32).contiguous()

    def block(index: int) -> VocosBlock:
        at = f"backbone.convnext.{index}."
        gamma = take(f"{at}gamma")
        return VocosBlock(
            take(f"{at}dwconv.weight"), take(f"{at}dwconv.bias"),
            take(f"{at}norm.weight"), take(f"{at}norm.bias"),
            take(f"{at}pwconv1.weight"), take(f"{at}pwconv1.bias"),
            gamma.unsqueeze(1) * take(f"{at}pwconv2.weight"), gamma * take(f"{at}pwconv2.bias"),
        )  # fmt: skip

    layers = 0
    while f"backbone.convnext.{layers}.dwconv.weight" in state:
        layers += 1
    out_w = take("head.out.weight")
    n_fft = out_w.shape[0] - 2
    if hop * 4 != n_fft:
        raise UnsupportedVocoder(f"hop {hop} is not a quarter of the window {n_fft}")
    if padding not in ("center", "same"):
        raise UnsupportedVocoder(f"padding {padding!r} is neither center nor same")
    return VocosWeights(
        embed_w=take("backbone.embed.weight"),
        embed_b=take("backbone.embed.bias"),
        norm_w=take("backbone.norm.weight"),
        norm_b=take("backbone.norm.bias"),
        blocks=tuple(block(index) for index in range(layers)),
        last_w=take("backbone.final_layer_norm.weight"),
        last_b=take("backbone.final_layer_norm.bias"),
        out_w=out_w,
        out_b=take("head.out.bias"),
        window=torch.hann_window(n_fft, device=device),
        hop=hop,
        padding=padding,
    )


def load(folder: Path, device: torch.device) -> VocosWeights:
    """Vocos from a folder with `config.yaml` and `pytorch_model.bin`. ValueError without them."""
    import yaml

    config_path, model_path = folder / "config.yaml", folder / "pytorch_model.bin"
    for path in (config_path, model_path):
        if not path.is_file():
            raise ValueError(f"no {path.name} in {folder}; give the folder of vocos-mel-24khz")
    head = yaml.safe_load(config_path.read_text(encoding="utf-8"))["head"]["init_args"]
    state = torch.load(model_path, map_location="cpu", weights_only=True)
    return fold(state, hop=head["hop_length"], padding=head.get("padding", "same"), device=device)


def from_module(module: Any, device: torch.device) -> VocosWeights:
    """The weights of a `vocos.Vocos` that is already loaded."""
    istft = getattr(getattr(module, "head", None), "istft", None)
    if istft is None:
        raise UnsupportedVocoder(
            f"{type(module).__name__} is not a Vocos with an inverse-STFT head"
        )
    return fold(module.state_dict(), hop=istft.hop_length, padding=istft.padding, device=device)


def random_state(
    seed: int,
    *,
    mel: int = 100,
    dim: int = 512,
    hidden: int = 1536,
    layers: int = 8,
    n_fft: int = 1024,
) -> dict[str, Tensor]:
    """Seeded parameters under the vocos package's names, for runs without a checkpoint."""
    generator = torch.Generator().manual_seed(seed)

    def noise(*shape: int, scale: float) -> Tensor:
        return torch.randn(shape, generator=generator) * scale

    state = {
        "backbone.embed.weight": noise(dim, mel, 7, scale=(7 * mel) ** -0.5),
        "backbone.embed.bias": noise(dim, scale=0.02),
        "head.out.weight": noise(n_fft + 2, dim, scale=dim**-0.5),
        "head.out.bias": noise(n_fft + 2, scale=0.02),
    }
    for name in ("backbone.norm", "backbone.final_layer_norm"):
        state[f"{name}.weight"] = 1 + noise(dim, scale=0.02)
        state[f"{name}.bias"] = noise(dim, scale=0.02)
    for index in range(layers):
        at = f"backbone.convnext.{index}."
        state[f"{at}dwconv.weight"] = noise(dim, 1, 7, scale=7**-0.5)
        state[f"{at}dwconv.bias"] = noise(dim, scale=0.02)
        state[f"{at}norm.weight"] = 1 + noise(dim, scale=0.02)
        state[f"{at}norm.bias"] = noise(dim, scale=0.02)
        state[f"{at}pwconv1.weight"] = noise(hidden, dim, scale=dim**-0.5)
        state[f"{at}pwconv1.bias"] = noise(hidden, scale=0.02)
        state[f"{at}pwconv2.weight"] = noise(dim, hidden, scale=hidden**-0.5)
        state[f"{at}pwconv2.bias"] = noise(dim, scale=0.02)
        state[f"{at}gamma"] = torch.full((dim,), 1 / layers)
    return state


def samples_for(weights: VocosWeights, frames: int) -> int:
    """Samples that `frames` mel frames decode to."""
    return (frames - 1) * weights.hop if weights.padding == "center" else frames * weights.hop


def trim_of(weights: VocosWeights) -> int:
    """Samples of the overlapped frames that are cut off in front and behind."""
    return (weights.n_fft if weights.padding == "center" else weights.n_fft - weights.hop) // 2


@contextmanager
def fp32_products(*, tf32: bool) -> Iterator[None]:
    """Whether fp32 matrix products inside may use TF32 (the convolutions do by torch's default)."""
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = tf32
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def backbone(w: VocosWeights, x: Tensor, inside: Tensor) -> Tensor:
    """All blocks, (items, frames, channels); `inside` (items, frames, 1), 1 within an item."""
    keep = inside.transpose(1, 2)
    for b in w.blocks:
        h = F.conv1d(x.transpose(1, 2) * keep, b.dw_w, b.dw_b, padding=3, groups=x.shape[-1])
        h = F.layer_norm(h.transpose(1, 2), (x.shape[-1],), b.norm_w, b.norm_b, NORM_EPS)
        x = x + F.linear(F.gelu(F.linear(h, b.up_w, b.up_b)), b.down_w, b.down_b)
    return x


def head(
    w: VocosWeights, mel: Tensor, lengths: Tensor, inside: Tensor, blocks: Blocks | None = None
) -> Tensor:
    """Backbone and head: (items, frames, mel) to (items, frames, 2 * bins), see `polar`."""
    # Where, not times: what lies outside may be anything, and NaN times 0 is NaN.
    mel = torch.where(inside > 0, mel, 0.0)
    x = F.conv1d(mel.transpose(1, 2), w.embed_w, w.embed_b, padding=3).transpose(1, 2)
    x = F.layer_norm(x, (x.shape[-1],), w.norm_w, w.norm_b, NORM_EPS)
    x = backbone(w, x, inside) if blocks is None else blocks(x, lengths)
    x = F.layer_norm(x, (x.shape[-1],), w.last_w, w.last_b, NORM_EPS)
    return F.linear(x, w.out_w, w.out_b)


def polar(head: Tensor) -> tuple[Tensor, Tensor]:
    """The head's output to magnitude and phase, (items, frames, bins) each."""
    magnitude, phase = head.chunk(2, dim=-1)
    return magnitude.exp().clamp(max=MAX_MAGNITUDE), phase


def inverse_stft(w: VocosWeights, magnitude: Tensor, phase: Tensor, inside: Tensor) -> Tensor:
    """Frames to samples, (items, samples of a full bucket); frames outside add nothing."""
    bins = torch.polar(magnitude, phase)
    # The first and the last are real in a real signal. cuFFT drops what is imaginary of them or
    # does not, by the number of frames; then a bucket or a batch would change the samples.
    bins.imag[..., :: w.n_fft // 2].zero_()
    frames = torch.fft.irfft(bins, w.n_fft, dim=-1)
    total = _overlap_add(frames * w.window * inside, w.hop)
    envelope = _overlap_add(w.window.square() * inside, w.hop)
    trim = trim_of(w)
    total, envelope = total[:, trim:-trim], envelope[:, trim:-trim]
    return total / torch.where(envelope > 1e-11, envelope, 1.0)


def _overlap_add(frames: Tensor, hop: int) -> Tensor:
    """(items, frames, 4 * hop) to (items, (frames + 3) * hop)."""
    items, count, _ = frames.shape
    quarters = frames.reshape(items, count, 4, hop)
    out = F.pad(quarters[:, :, 0], (0, 0, 0, 3))
    for index in range(1, 4):
        out[:, index : index + count] += quarters[:, :, index]
    return out.reshape(items, -1)


def within(lengths: Tensor, frames: int) -> Tensor:
    """(items, frames, 1) fp32: 1 within an item's length, else 0."""
    steps = torch.arange(frames, device=lengths.device)
    return (steps.unsqueeze(0) < lengths.unsqueeze(1)).unsqueeze(-1).to(torch.float32)


def decode(
    w: VocosWeights,
    mel: Tensor,
    lengths: Tensor,
    blocks: Blocks | None = None,
    inverse: Inverse | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """(items, frames, mel) fp32 and frames per item (items,) int64 to samples; see `samples_for`.
    `blocks`, `inverse`: in place of `backbone`, of `polar` and `inverse_stft`. `out`: where the
    samples go, contiguous; a new tensor without it."""
    inside = within(lengths, mel.shape[1])
    spectrum = head(w, mel, lengths, inside, blocks)
    if inverse is not None:
        return inverse(spectrum, lengths, out)
    wave = inverse_stft(w, *polar(spectrum), inside)
    return wave if out is None else out.copy_(wave)


def decode_with_torch(w: VocosWeights, mel: Tensor) -> Tensor:
    """One mel (frames, mel) to samples through `torch.istft` (the switch `istft` off)."""
    if w.padding != "center":
        raise UnsupportedVocoder("torch.istft covers the padding `center` alone")
    lengths = torch.full((1,), mel.shape[0], device=mel.device)
    inside = torch.ones(1, mel.shape[0], 1, device=mel.device)
    magnitude, phase = polar(head(w, mel.unsqueeze(0), lengths, inside))
    bins = torch.polar(magnitude, phase).transpose(1, 2)
    return torch.istft(bins, w.n_fft, w.hop, w.n_fft, w.window, center=True)[0]
