"""The network's parameters, folded for inference.

Parameter names are upstream's (the same in 1.1.5 to 1.1.22), without the `transformer.` prefix.
Folding changes no result beyond rounding: query, key and value become one matrix; rows of query
and key are reordered so that the two halves of a rotary pair lie 8 columns apart (attention only
sees their products, and both move alike; a thread of the matrix instructions holds both); the
input projection is split into what meets the noise, the reference and the text, because the last
two do not change from step to step.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from f5_tts.fast.arch import Arch
from torch import Tensor

CONV_GROUPS = 16
CONV_KERNEL = 31


@dataclass(frozen=True)
class Layer:
    """One DiT block: matrices (out, in) and their biases."""

    qkv_w: Tensor
    qkv_b: Tensor
    out_w: Tensor
    out_b: Tensor
    ff1_w: Tensor
    ff1_b: Tensor
    ff2_w: Tensor
    ff2_b: Tensor


@dataclass(frozen=True)
class TextBlock:
    """One ConvNeXt-V2 block of the text encoder."""

    dw_w: Tensor
    dw_b: Tensor
    norm_w: Tensor
    norm_b: Tensor
    up_w: Tensor
    up_b: Tensor
    grn_gamma: Tensor
    grn_beta: Tensor
    down_w: Tensor
    down_b: Tensor


@dataclass(frozen=True)
class Modulation:
    """What depends on the time alone: time MLP and AdaLN matrices, kept in host memory."""

    mlp0_w: Tensor
    mlp0_b: Tensor
    mlp2_w: Tensor
    mlp2_b: Tensor
    block_w: tuple[Tensor, ...]
    block_b: tuple[Tensor, ...]
    final_w: Tensor
    final_b: Tensor


@dataclass(frozen=True)
class Weights:
    """Everything a step needs, in one type on one device."""

    arch: Arch
    in_x: Tensor
    in_cond: Tensor
    in_text: Tensor
    in_b: Tensor
    conv_w: tuple[Tensor, Tensor]
    conv_b: tuple[Tensor, Tensor]
    layers: tuple[Layer, ...]
    proj_w: Tensor
    proj_b: Tensor
    text_table: Tensor
    text_blocks: tuple[TextBlock, ...]
    modulation: Modulation

    @property
    def device(self) -> torch.device:
        return self.in_x.device

    @property
    def dtype(self) -> torch.dtype:
        return self.in_x.dtype


class WeightsMismatch(ValueError):
    """The checkpoint is not of this architecture."""


def rotary_group(dim_head: int) -> int:
    """How far apart the halves of a rotary pair lie in folded weights."""
    half = dim_head // 2
    return 8 if half % 8 == 0 else half


def paired_rows(heads: int, dim_head: int) -> Tensor:
    """Row order that turns interleaved rotary pairs (2i, 2i+1) into groups of 8 firsts and their
    8 seconds: pair i of a head lies at 16 * (i // 8) + i % 8, and 8 behind that."""
    pairs = torch.arange(dim_head).view(-1, rotary_group(dim_head), 2)
    order = pairs.transpose(1, 2).reshape(-1)
    return (torch.arange(heads).unsqueeze(1) * dim_head + order).reshape(-1)


def fold(
    state: Mapping[str, Tensor], arch: Arch, *, device: torch.device, dtype: torch.dtype
) -> Weights:
    """Folded weights from a DiT's parameters. WeightsMismatch names the first that does not fit."""

    def take(name: str, *shape: int) -> Tensor:
        tensor = state.get(name)
        if tensor is None:
            raise WeightsMismatch(f"the checkpoint has no {name}; it is not a DiT of F5-TTS")
        if shape and tuple(tensor.shape) != shape:
            raise WeightsMismatch(f"{name} has the shape {tuple(tensor.shape)}, not {shape}")
        return tensor.detach()

    def put(tensor: Tensor) -> Tensor:
        return tensor.to(device=device, dtype=dtype).contiguous()

    def host(tensor: Tensor) -> Tensor:
        # Only read when a new schedule is built: host memory is cheaper than the GPU's.
        return tensor.to(device="cpu", dtype=dtype).contiguous()

    dim, inner, mel = arch.dim, arch.inner, arch.mel_dim
    order = paired_rows(arch.heads, arch.dim_head)

    def layer(index: int) -> Layer:
        at = f"transformer_blocks.{index}."
        parts_w = [take(f"{at}attn.to_{part}.weight", inner, dim) for part in "qkv"]
        parts_b = [take(f"{at}attn.to_{part}.bias", inner) for part in "qkv"]
        rows = order.to(parts_w[0].device)
        qkv_w = torch.cat([parts_w[0][rows], parts_w[1][rows], parts_w[2]])
        qkv_b = torch.cat([parts_b[0][rows], parts_b[1][rows], parts_b[2]])
        return Layer(
            qkv_w=put(qkv_w),
            qkv_b=put(qkv_b),
            out_w=put(take(f"{at}attn.to_out.0.weight", dim, inner)),
            out_b=put(take(f"{at}attn.to_out.0.bias", dim)),
            ff1_w=put(take(f"{at}ff.ff.0.0.weight", arch.ff_dim, dim)),
            ff1_b=put(take(f"{at}ff.ff.0.0.bias", arch.ff_dim)),
            ff2_w=put(take(f"{at}ff.ff.2.weight", dim, arch.ff_dim)),
            ff2_b=put(take(f"{at}ff.ff.2.bias", dim)),
        )

    def text_block(index: int) -> TextBlock:
        at = f"text_embed.text_blocks.{index}."
        return TextBlock(
            dw_w=put(take(f"{at}dwconv.weight", arch.text_dim, 1, 7)),
            dw_b=put(take(f"{at}dwconv.bias")),
            norm_w=put(take(f"{at}norm.weight")),
            norm_b=put(take(f"{at}norm.bias")),
            up_w=put(take(f"{at}pwconv1.weight")),
            up_b=put(take(f"{at}pwconv1.bias")),
            grn_gamma=put(take(f"{at}grn.gamma").reshape(-1)),
            grn_beta=put(take(f"{at}grn.beta").reshape(-1)),
            down_w=put(take(f"{at}pwconv2.weight")),
            down_b=put(take(f"{at}pwconv2.bias")),
        )

    proj = take("input_embed.proj.weight", dim, 2 * mel + arch.text_dim)
    conv = "input_embed.conv_pos_embed.conv1d."
    blocks = range(arch.depth)
    if f"transformer_blocks.{arch.depth}.attn.to_q.weight" in state:
        raise WeightsMismatch(f"the checkpoint has more than the {arch.depth} blocks configured")
    group = dim // CONV_GROUPS
    return Weights(
        arch=arch,
        in_x=put(proj[:, :mel]),
        in_cond=put(proj[:, mel : 2 * mel]),
        in_text=put(proj[:, 2 * mel :]),
        in_b=put(take("input_embed.proj.bias", dim)),
        conv_w=(
            put(take(f"{conv}0.weight", dim, group, CONV_KERNEL)),
            put(take(f"{conv}2.weight", dim, group, CONV_KERNEL)),
        ),
        conv_b=(put(take(f"{conv}0.bias", dim)), put(take(f"{conv}2.bias", dim))),
        layers=tuple(layer(index) for index in blocks),
        proj_w=put(take("proj_out.weight", mel, dim)),
        proj_b=put(take("proj_out.bias", mel)),
        text_table=put(take("text_embed.text_embed.weight")),
        text_blocks=tuple(text_block(index) for index in range(arch.conv_layers)),
        modulation=Modulation(
            mlp0_w=host(take("time_embed.time_mlp.0.weight")),
            mlp0_b=host(take("time_embed.time_mlp.0.bias")),
            mlp2_w=host(take("time_embed.time_mlp.2.weight")),
            mlp2_b=host(take("time_embed.time_mlp.2.bias")),
            block_w=tuple(
                host(take(f"transformer_blocks.{i}.attn_norm.linear.weight", 6 * dim, dim))
                for i in blocks
            ),
            block_b=tuple(
                host(take(f"transformer_blocks.{i}.attn_norm.linear.bias")) for i in blocks
            ),
            final_w=host(take("norm_out.linear.weight", 2 * dim, dim)),
            final_b=host(take("norm_out.linear.bias")),
        ),
    )


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """A DiT's parameters from a `.safetensors` or `.pt` checkpoint, plain or with EMA prefixes.

    ValueError says what is wrong with the file.
    """
    if not path.is_file():
        raise ValueError(f"no checkpoint at {path}; give the path of model_*.safetensors")
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        raw: Mapping[str, Tensor] = load_file(str(path))
    else:
        loaded = torch.load(path, map_location="cpu", weights_only=True)
        raw = loaded.get("ema_model_state_dict", loaded.get("model_state_dict", loaded))
    state = {_plain(name): tensor for name, tensor in raw.items() if _wanted(name)}
    if not state:
        raise ValueError(f"{path} holds no parameters of an F5-TTS transformer")
    return state


def _plain(name: str) -> str:
    return name.replace("ema_model.", "").replace("transformer.", "", 1)


def _wanted(name: str) -> bool:
    return "transformer." in name


def random_state(arch: Arch, text_symbols: int, seed: int) -> dict[str, Tensor]:
    """Seeded parameters under upstream's names, none of them zero.

    A DiT with upstream's own initialisation outputs exactly zero (AdaLN and the last projection
    start at zero), so comparing two of them proves nothing.
    """
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, shape in parameter_shapes(arch, text_symbols):
        if name.endswith(("norm.weight",)):
            tensor = torch.ones(shape) + torch.randn(shape, generator=generator) * 0.02
        elif len(shape) == 1 or "grn" in name:
            tensor = torch.randn(shape, generator=generator) * 0.02
        elif name.startswith("text_embed.text_embed"):
            tensor = torch.randn(shape, generator=generator)
        elif "attn_norm.linear" in name or "norm_out.linear" in name or "proj_out" in name:
            tensor = torch.randn(shape, generator=generator) * 0.03
        else:
            fan_in = 1
            for size in shape[1:]:
                fan_in *= size
            tensor = torch.randn(shape, generator=generator) * fan_in**-0.5
        state[name] = tensor
    return state


def parameter_shapes(arch: Arch, text_symbols: int) -> Iterable[tuple[str, tuple[int, ...]]]:
    """Name and shape of every parameter of upstream's DiT, in a fixed order."""
    dim, inner, mel, text = arch.dim, arch.inner, arch.mel_dim, arch.text_dim

    def linear(name: str, out: int, into: int) -> list[tuple[str, tuple[int, ...]]]:
        return [(f"{name}.weight", (out, into)), (f"{name}.bias", (out,))]

    yield from linear("time_embed.time_mlp.0", dim, 256)
    yield from linear("time_embed.time_mlp.2", dim, dim)
    yield "text_embed.text_embed.weight", (text_symbols + 1, text)
    for index in range(arch.conv_layers):
        at = f"text_embed.text_blocks.{index}."
        yield f"{at}dwconv.weight", (text, 1, 7)
        yield f"{at}dwconv.bias", (text,)
        yield f"{at}norm.weight", (text,)
        yield f"{at}norm.bias", (text,)
        yield from linear(f"{at}pwconv1", 2 * text, text)
        yield f"{at}grn.gamma", (1, 1, 2 * text)
        yield f"{at}grn.beta", (1, 1, 2 * text)
        yield from linear(f"{at}pwconv2", text, 2 * text)
    yield from linear("input_embed.proj", dim, 2 * mel + text)
    for index in (0, 2):
        name = f"input_embed.conv_pos_embed.conv1d.{index}"
        yield f"{name}.weight", (dim, dim // CONV_GROUPS, CONV_KERNEL)
        yield f"{name}.bias", (dim,)
    for index in range(arch.depth):
        at = f"transformer_blocks.{index}."
        yield from linear(f"{at}attn_norm.linear", 6 * dim, dim)
        for part in "qkv":
            yield from linear(f"{at}attn.to_{part}", inner, dim)
        yield from linear(f"{at}attn.to_out.0", dim, inner)
        yield from linear(f"{at}ff.ff.0.0", arch.ff_dim, dim)
        yield from linear(f"{at}ff.ff.2", dim, arch.ff_dim)
    yield from linear("norm_out.linear", 2 * dim, dim)
    yield from linear("proj_out", mel, dim)
