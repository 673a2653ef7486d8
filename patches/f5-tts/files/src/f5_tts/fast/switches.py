"""One environment variable per optimisation, so that each can be turned off and measured.

Every switch but `compile` is on unless its variable is `0`, `off`, `false` or `no`. The
environment is read when a synthesizer is built, not at import.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, fields

PREFIX = "F5_FAST_"
_OFF = frozenset({"0", "off", "false", "no"})
_ON = frozenset({"1", "on", "true", "yes"})


@dataclass(frozen=True)
class Switches:
    """What is on. The field `graphs` is the variable `F5_FAST_GRAPHS`, and so on.

    `bridge`: upstream's `infer_batch_process` uses the fast path. `graphs`: CUDA graphs.
    `kernels`: fused CUDA kernels built with NVRTC. `fused_qkv`: one GEMM for query, key and
    value. `gelu_epilogue`: GELU inside cuBLAS's GEMM. `schedule`: time MLP and AdaLN evaluated once
    per schedule instead of once per step. `gemm`: our own matrix products on Hopper, which do what
    follows them in the network too; `norms`: also the LayerNorm between two of them. `pdl`: a
    kernel is set up while the one before ends, on Hopper. `varlen`: attention that knows each row's
    length, instead of a mask; `attention`: our own kernel for it instead of the library's. `conv`:
    the fused grouped convolution. `text_kernels`: our own kernels around the steps too, in the text
    encoder and the vocoder (with `kernels`). `voices`: the voice cache. `istft`: our inverse STFT
    over the graphed vocoder. `vocoder_tf32`: TF32 in the vocoder's matrix products. `batching`:
    chunks of one text share a batch. `first_chunk`: a short first chunk. `folded`: the folded
    weight file.
    `compile` (off unless asked for): torch.compile instead of our own kernels, bucket by bucket
    once everything else is warm.
    """

    bridge: bool = True
    graphs: bool = True
    kernels: bool = True
    fused_qkv: bool = True
    gelu_epilogue: bool = True
    schedule: bool = True
    gemm: bool = True
    norms: bool = True
    pdl: bool = True
    varlen: bool = True
    attention: bool = True
    conv: bool = True
    text_kernels: bool = True
    voices: bool = True
    istft: bool = True
    vocoder_tf32: bool = True
    batching: bool = True
    first_chunk: bool = True
    folded: bool = True
    compile: bool = False


def read(environ: Mapping[str, str] | None = None) -> Switches:
    """The switches the environment asks for; ValueError names a value that is neither."""
    source = os.environ if environ is None else environ
    chosen: dict[str, bool] = {}
    for field in fields(Switches):
        name = PREFIX + field.name.upper()
        value = source.get(name, "").strip().lower()
        if value in _OFF:
            chosen[field.name] = False
        elif value in _ON:
            chosen[field.name] = True
        elif value:
            raise ValueError(f"{name}={value!r} is neither on (1) nor off (0)")
    return Switches(**chosen)
