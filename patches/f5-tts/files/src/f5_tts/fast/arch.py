"""The network's sizes, read from upstream's own configuration files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from importlib.resources import files
from typing import Any


class UnsupportedArch(ValueError):
    """A network this package does not restructure; upstream's own path still runs it."""


@dataclass(frozen=True)
class Arch:
    """Sizes of a DiT. Defaults are those of upstream's constructor.

    `conv_layers` ConvNeXt-V2 blocks follow the text embedding; `pe_attn_head` is the number of
    heads with rotary positions (None: all). Frames are 256 samples at 24 kHz.
    """

    dim: int
    depth: int
    heads: int
    text_dim: int
    ff_mult: int = 4
    dim_head: int = 64
    mel_dim: int = 100
    conv_layers: int = 0
    text_mask_padding: bool = True
    pe_attn_head: int | None = None

    @property
    def inner(self) -> int:
        """Width of query, key and value."""
        return self.heads * self.dim_head

    @property
    def ff_dim(self) -> int:
        return int(self.dim * self.ff_mult)


_SAME_AS_DEFAULT: dict[str, tuple[object, ...]] = {
    "qk_norm": (None,),
    "long_skip_connection": (False,),
    "text_embedding_average_upsampling": (False,),
}
_NO_EFFECT = {
    "dropout",
    "attn_backend",
    "attn_mask_enabled",
    "checkpoint_activations",
    "text_num_embeds",
}


def from_mapping(values: Mapping[str, Any]) -> Arch:
    """Sizes from the `arch` block of a model file; UnsupportedArch names what is not covered."""
    known = {field.name for field in fields(Arch)}
    chosen: dict[str, Any] = {}
    for name, value in values.items():
        if name in known:
            chosen[name] = value
        elif name in _SAME_AS_DEFAULT:
            if value not in _SAME_AS_DEFAULT[name]:
                raise UnsupportedArch(f"{name}={value!r} is not restructured by f5_tts.fast")
        elif name not in _NO_EFFECT:
            raise UnsupportedArch(f"unknown architecture setting {name!r}")
    if chosen.get("text_dim") is None:
        chosen["text_dim"] = chosen.get("mel_dim", 100)
    missing = [name for name in ("dim", "depth", "heads") if name not in chosen]
    if missing:
        raise UnsupportedArch(f"the architecture lacks {', '.join(missing)}")
    arch = Arch(**chosen)
    if arch.dim % 16:
        raise UnsupportedArch(f"dim is {arch.dim}; the position convolution has 16 groups")
    return arch


def from_name(model: str) -> Arch:
    """The architecture of a model file in `f5_tts/configs`, such as `F5TTS_v1_Base`."""
    import yaml

    folder = files("f5_tts").joinpath("configs")
    path = folder.joinpath(f"{model}.yaml")
    if not path.is_file():
        names = sorted(item.name[:-5] for item in folder.iterdir() if item.name.endswith(".yaml"))
        raise UnsupportedArch(f"no model {model!r} in f5_tts/configs; there are {', '.join(names)}")
    config = yaml.safe_load(path.read_text(encoding="utf-8"))["model"]
    if config.get("backbone") != "DiT":
        raise UnsupportedArch(f"{model} has the backbone {config.get('backbone')}, not DiT")
    mel = config.get("mel_spec", {})
    if mel.get("mel_spec_type", "vocos") != "vocos":
        raise UnsupportedArch(f"{model} wants the vocoder {mel['mel_spec_type']}, not vocos")
    return from_mapping(config["arch"])
