"""Whether our kernels compute here what plain torch computes: asked once, before they are used.

A driver, a compiler or a chip that nobody has run them on then costs time and never the result:
what is wrong is left to the library, with one line in the log that says so. The numbers are random
and small; all of it takes some tens of milliseconds.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from f5_tts.fast import embed, vocoder
from f5_tts.fast.conv import HopperConv
from f5_tts.fast.convnext import TextEncoder
from f5_tts.fast.gemm import GATED, GELU, MENU, ROTARY, Gemm, Norm
from f5_tts.fast.ops import NORM_EPS, TorchOps, rotary_table
from torch import Tensor

# Rounding in half precision makes 1e-3 of it; a tile, a tail or an angle that is off makes more.
BOUND = 1e-2
_FRAMES = 96


def same(got: Tensor, want: Tensor) -> bool:
    """Equal to rounding; what is not a number is equal to nothing."""
    want = want.float()
    distance = torch.linalg.vector_norm(got.float() - want)
    return bool(distance <= BOUND * torch.linalg.vector_norm(want))


class _Draw:
    """Random tensors on one device, always the same ones."""

    def __init__(self, device: torch.device, dtype: torch.dtype) -> None:
        self._generator = torch.Generator(device).manual_seed(1)
        self._device, self._dtype = device, dtype

    def __call__(self, *shape: int) -> Tensor:
        values = torch.randn(shape, generator=self._generator, device=self._device)
        return values.to(self._dtype)


@torch.inference_mode()
def operators(own: TorchOps, plain: TorchOps) -> list[str]:
    """Names of those operators of `own` that are not `plain`'s to rounding."""
    weights = plain._weights
    arch, device = weights.arch, weights.device
    draw = _Draw(device, weights.dtype)
    lengths = torch.tensor([_FRAMES - 13, _FRAMES - 40], dtype=torch.int32, device=device)
    x, y = draw(2, _FRAMES, arch.dim), draw(2, _FRAMES, arch.dim)
    gate, modulation = draw(arch.dim), draw(2, arch.dim)
    wrong = [] if same(own.norm(x, modulation), plain.norm(x, modulation)) else ["norm"]
    added = zip(
        own.add_norm(x.clone(), y, gate, modulation),
        plain.add_norm(x.clone(), y, gate, modulation),
        strict=True,
    )
    if not all(same(got, want) for got, want in added):
        wrong.append("add_norm")
    table = rotary_table(arch.dim_head, _FRAMES, device)
    qkv = draw(2, _FRAMES, 3, arch.heads, arch.dim_head)
    for heads in (arch.heads, 1):
        got = own.rotate(qkv.clone(), own.rotary_form(table), heads)
        if not same(got, plain.rotate(qkv.clone(), plain.rotary_form(table), heads)):
            wrong.append("rotate")
            break
    noise = draw(1, _FRAMES, arch.mel_dim).float()
    joined = plain.input(noise, x.clone(), lengths)
    if not same(own.input(noise, x.clone(), lengths), joined):
        wrong.append("input")
    if not _same_rows(own.positions(joined.clone(), lengths), joined, plain, lengths):
        wrong.append("positions")
    delta, strength = (torch.full(shape, 0.5, device=device) for shape in ((1,), (1, 1, 1)))
    for guidance, rows in ((strength, 2), (None, 1)):
        mine, theirs = noise.clone(), noise.clone()
        own.advance(mine, own.project(x[:rows]), delta, guidance)
        plain.advance(theirs, plain.project(x[:rows]), delta, guidance)
        if not same(mine - noise, theirs - noise):
            wrong.append("advance")
            break
    row = draw(64).view(torch.uint8)
    own.take_row(row, taken := torch.zeros_like(row))
    if not torch.equal(taken, row):
        wrong.append("take_row")
    return wrong


def _same_rows(got: Tensor, h: Tensor, plain: TorchOps, lengths: Tensor) -> bool:
    """Positions added to their input, within each row's length: behind it anything may be. Not
    without the input: with some weights they are small beside it, and so is what rounding leaves
    of them."""
    return _same_within(got, plain.positions(h.clone(), lengths), lengths.tolist())


def _same_within(got: Tensor, want: Tensor, lengths: Iterable[int]) -> bool:
    """Row by row, so that a long one hides no short one; behind its length anything may be."""
    return all(same(got[row, :length], want[row, :length]) for row, length in enumerate(lengths))


@torch.inference_mode()
def convolutions(conv: HopperConv, plain: TorchOps, tiles: tuple[int, ...]) -> bool:
    """Whether each tile of our convolution gives `plain`'s positions."""
    weights = plain._weights
    frames = max(tiles) + 30
    draw = _Draw(weights.device, weights.dtype)
    lengths = torch.tensor([frames, frames - 35], dtype=torch.int32, device=weights.device)
    h = draw(2, frames, weights.arch.dim)
    h[1, frames - 35 :] = 0
    return all(_same_rows(conv(h.clone(), lengths, tile), h, plain, lengths) for tile in tiles)


# Frames of a bucket and of each item in it: within one round of a block's threads, one of them
# filling the bucket, and over several rounds with a tail.
_TEXTS = ((65, (40, 65)), (1061, (1052, 530)))


@torch.inference_mode()
def text(own: TextEncoder, plain: TorchOps) -> bool:
    """Whether `own` encodes as plain torch does: ragged lengths, one of all frames, a text that
    ends before its item and one that fills it, frames outside."""
    weights = plain._weights
    arch, device = weights.arch, weights.device
    generator = torch.Generator(device).manual_seed(2)
    for frames, held in _TEXTS:
        items = len(held)
        symbols = weights.text_table.shape[0]
        tokens = torch.randint(1, symbols, (items, frames), generator=generator, device=device)
        lengths = torch.tensor(held, device=device)
        tokens[0, frames // 3 :] = 0
        positions = embed.text_positions(arch.text_dim, frames, device).to(weights.dtype)
        got, want = own(tokens, lengths, positions), plain.text(tokens, lengths, positions)
        # Row by row: the loud half must not hide the other, nor a long item a short one.
        if not all(same(mine, theirs) for mine, theirs in zip(got, want, strict=True)):
            return False
        if not _same_response(own, weights.text_blocks[0].up_w, lengths, frames):
            return False
    return True


def _same_response(own: TextEncoder, like: Tensor, lengths: Tensor, frames: int) -> bool:
    """The response norm by itself: every channel loud in few frames, so that each of them counts,
    and a strong gamma; frames that were left out would hardly be missed in a text."""
    hidden = like.shape[0]
    draw = _Draw(like.device, like.dtype)
    grn, h = draw(2, hidden), draw(len(lengths), frames, hidden)
    loud = torch.arange(frames, device=like.device).unsqueeze(1) % hidden
    h = torch.where(loud == torch.arange(hidden, device=like.device), 64 * h, h)
    valid = vocoder.within(lengths, frames).to(h.dtype)
    want = embed.response_norm(h, grn[0], grn[1], valid)
    own.response_norm(h, grn, lengths)
    return same(h, want)


@torch.inference_mode()
def vocos(blocks: vocoder.Blocks, w: vocoder.VocosWeights) -> bool:
    """Whether `blocks` are `vocoder.backbone`, by what they add to their input, within ragged
    lengths; what lies outside is large."""
    device = w.window.device
    draw = _Draw(device, torch.float32)
    for frames, held in _TEXTS:
        lengths = torch.tensor(held, device=device)
        inside = vocoder.within(lengths, frames)
        x = draw(len(held), frames, w.norm_w.shape[0])
        x = torch.where(inside > 0, x, 100 * x)
        want = vocoder.backbone(w, x, inside) - x
        got = blocks(x.clone(), lengths) - x
        if not _same_within(got, want, held):
            return False
    return True


# As `_TEXTS`, around the inverse FFT.
_SPECTRA = ((9, (9, 5, 2, 1)), (701, (701, 333)))


@torch.inference_mode()
def inverse(own: vocoder.Inverse, w: vocoder.VocosWeights) -> bool:
    """Whether `own` gives the samples that plain torch gives within ragged lengths: magnitudes of
    which many are too large, phases of several turns, and nothing that is a number outside."""
    draw = _Draw(w.window.device, torch.float32)
    for frames, held in _SPECTRA:
        lengths = torch.tensor(held, device=w.window.device)
        inside = vocoder.within(lengths, frames)
        bins = w.n_fft // 2 + 1
        head = draw(len(held), frames, 2 * bins)
        head[..., :bins] *= 3
        head[..., bins:] *= 30
        want = vocoder.inverse_stft(w, *vocoder.polar(head), inside)
        # What is not written stays what is not a number.
        got = torch.full_like(want, float("nan"))
        own(torch.where(inside > 0, head, float("nan")), lengths, got)
        if not _same_within(got, want, (vocoder.samples_for(w, length) for length in held)):
            return False
    return True


@torch.inference_mode()
def products(
    gemm: Gemm,
    plain: TorchOps,
    heads: int,
    *,
    frames: int = 1056,
    dim: int = 1024,
) -> list[str]:
    """The first tile that is wrong, in words, or nothing: every tile of the menu with what follows
    it, over several tiles a block, with tails, with rows that end within a tile."""
    weights = plain._weights
    draw = _Draw(weights.device, weights.dtype)
    tokens, moments = 2 * frames, torch.empty(dim // 64, 2 * frames, 2, device=weights.device)
    table = rotary_table(64, frames, weights.device)
    x, gate, scale, shift = draw(tokens, dim), draw(dim), 1 + draw(dim) / 4, draw(dim)
    residual, weight, bias = draw(tokens, dim), draw(dim, dim) * dim**-0.5, draw(dim)
    summed = residual.float() + gate.float() * (F.linear(x, weight).float() + bias.float())
    scaled = torch.empty_like(x)
    for tile in MENU[GATED]:
        for norm in (None, Norm(moments, scale, scaled)):
            out = residual.clone()
            gemm(tile, GATED, x, weight, bias, out, gate=gate, norm=norm)
            if not same(out, summed):
                return [f"a product with gate, {tile}"]
        # From the last: what the products behind take for their norm.
        parts = summed.view(tokens, -1, 64)
        means = parts.mean(-1)
        squares = (parts - means.unsqueeze(-1)).square().sum(-1)
        want = torch.stack((means, squares), -1).transpose(0, 1)
        if not (same(moments, want) and same(scaled, summed * scale.float() / 16)):
            return [f"a product before a norm, {tile}"]
    normed = F.layer_norm(summed, (dim,), scale.float(), shift.float(), NORM_EPS)
    normed = normed.to(x.dtype)
    for kind, features in ((GELU, 2 * dim), (ROTARY, 3 * heads * 64)):
        weight, bias = draw(features, dim) * dim**-0.5, draw(features)
        fold = torch.stack(
            (F.linear(scale, weight).float(), F.linear(shift, weight).float() + bias.float())
        )
        cases = ((x, None), (scaled, Norm(moments, fold=fold)))
        for given, norm in cases:
            want = F.linear(x if norm is None else normed, weight, bias)
            if kind == GELU:
                want = F.gelu(want, approximate="tanh")
            else:
                shaped = want.view(2, frames, 3, heads, 64)
                want = TorchOps.rotate(plain, shaped, table, heads).view(tokens, -1)
            for tile in (one for one in MENU[kind] if features % one.features == 0):
                out = torch.full_like(want, float("nan"))
                gemm(tile, kind, given, weight, bias, out, norm=norm, table=table, frames=frames,
                     rotated=heads)  # fmt: skip
                if not same(out, want):
                    what = "GELU" if kind == GELU else "rotary positions"
                    return [f"a product with {what}, {tile}, norm {norm is not None}"]
    return []
