"""Folded weights on disk: about 0.7 GB of fp16 instead of 1.35 GB of fp32, ready to use.

Two files per checkpoint: what every step reads, loaded straight to the device, and the
modulation matrices, mapped from disk and touched only when a schedule is built.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

import torch
from f5_tts.fast.arch import Arch
from f5_tts.fast.weights import Layer, Modulation, TextBlock, Weights
from torch import Tensor

FORMAT = 2

log = logging.getLogger(__name__)


def key_for(source: Path | str, arch: Arch, dtype: torch.dtype) -> str:
    """Names a folded file after its source, the architecture, the type and this format."""
    if isinstance(source, Path):
        about = source.stat()
        identity = f"{source.resolve()}:{about.st_size}:{about.st_mtime_ns}"
    else:
        identity = source
    text = f"{FORMAT}|{identity}|{sorted(asdict(arch).items())}|{dtype}"
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def load_or_fold(
    folder: Path, key: str, arch: Arch, device: torch.device, make: Callable[[], Weights]
) -> Weights:
    """The folded weights under `key`, read if they are there, else made and written.

    A file that cannot be read (a disk that lost power in mid-write) is made again; one that cannot
    be written (a disk that is full) only makes the next start slower.
    """
    from safetensors import SafetensorError

    main, modulation = folder / f"{key}.safetensors", folder / f"{key}-time.safetensors"
    if main.is_file() and modulation.is_file():
        found = _read(main, modulation, arch, device)
        if found is not None:
            return found
    weights = make()
    tensors = flatten(weights)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # The modulation first: a reader wants both, and takes the main file as the sign.
        _write(
            modulation,
            {name: tensors.pop(name) for name in list(tensors) if name.startswith("modulation.")},
        )
        _write(main, tensors)
    except (OSError, SafetensorError) as error:
        log.warning("folded weights are not kept in %s: %s", folder, error)
    return weights


def flatten(weights: Weights) -> dict[str, Tensor]:
    """Every tensor under a dotted name."""
    result: dict[str, Tensor] = {}

    def visit(prefix: str, value: Any) -> None:
        if isinstance(value, Tensor):
            result[prefix] = value
        elif isinstance(value, tuple):
            for index, item in enumerate(value):
                visit(f"{prefix}.{index}", item)
        elif isinstance(value, (Layer, TextBlock, Modulation, Weights)):
            for field in fields(value):
                name = f"{prefix}.{field.name}" if prefix else field.name
                visit(name, getattr(value, field.name))

    visit("", weights)
    return result


def unflatten(tensors: Mapping[str, Tensor], arch: Arch) -> Weights:
    """The reverse of `flatten`; KeyError where a tensor is missing."""

    def part(kind: type[Any], prefix: str) -> Any:
        return kind(**{field.name: tensors[f"{prefix}.{field.name}"] for field in fields(kind)})

    def several(prefix: str, count: int) -> tuple[Tensor, ...]:
        return tuple(tensors[f"{prefix}.{index}"] for index in range(count))

    single = ("mlp0_w", "mlp0_b", "mlp2_w", "mlp2_b", "final_w", "final_b")
    return Weights(
        arch=arch,
        **{
            name: tensors[name]
            for name in ("in_x", "in_cond", "in_text", "in_b", "proj_w", "proj_b", "text_table")
        },
        conv_w=(tensors["conv_w.0"], tensors["conv_w.1"]),
        conv_b=(tensors["conv_b.0"], tensors["conv_b.1"]),
        layers=tuple(part(Layer, f"layers.{index}") for index in range(arch.depth)),
        text_blocks=tuple(
            part(TextBlock, f"text_blocks.{index}") for index in range(arch.conv_layers)
        ),
        modulation=Modulation(
            **{name: tensors[f"modulation.{name}"] for name in single},
            block_w=several("modulation.block_w", arch.depth),
            block_b=several("modulation.block_b", arch.depth),
        ),
    )


def _read(main: Path, modulation: Path, arch: Arch, device: torch.device) -> Weights | None:
    """None where a file is not what `_write` wrote."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors = load_file(str(main), device=str(device))
        tensors.update(load_file(str(modulation), device="cpu"))
        return unflatten(tensors, arch)
    except (OSError, SafetensorError, KeyError) as error:
        log.warning("folded weights in %s are made again: %s", main.parent, error)
        return None


def _write(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Whole or not at all, also where power is lost: a reader never sees half a file."""
    from safetensors.torch import save_file

    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        save_file({key: tensor.contiguous().cpu() for key, tensor in tensors.items()}, name)
        with open(name, "rb") as written:
            os.fsync(written.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
