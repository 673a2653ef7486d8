"""A small network for CPU tests: the whole real path with seeded, non-zero weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

ARCH: dict[str, Any] = {
    "dim": 128,
    "depth": 2,
    "heads": 2,
    "ff_mult": 2,
    "text_dim": 64,
    "conv_layers": 2,
}
TRANSCRIPT = "Some call me nature, others call me mother nature."


def clip(
    number: int, seconds: float = 3.0, rate: int = 24000
) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A clip like no other: seeded noise under a slow envelope."""
    rng = np.random.default_rng(number)
    t = np.arange(int(seconds * rate)) / rate
    wave = rng.standard_normal(t.size) * (0.5 + 0.4 * np.sin(2 * np.pi * (1 + number) * t))
    return (0.05 * wave).astype(np.float32)


def synthesizer(seed: int = 1, **arch: Any) -> Any:
    """A `Synthesizer` of the small network, on the CPU in fp32."""
    from f5_tts.fast.synthesizer import Synthesizer

    return Synthesizer.load(
        model={**ARCH, **arch}, ckpt_file=None, device="cpu", random_weights_seed=seed
    )


def upstream_model(source: Path, seed: int = 1, **arch: Any) -> Any:
    """Upstream's own CFM with the same weights as `synthesizer(seed)`."""
    from f5_tts.fast import arch as arch_module
    from f5_tts.fast import weights
    from f5_tts.model import CFM, DiT
    from f5_tts.model.utils import get_tokenizer

    sizes = {**ARCH, **arch}
    vocabulary, size = get_tokenizer(str(source / "f5_tts/infer/examples/vocab.txt"), "custom")
    model = CFM(
        transformer=DiT(**sizes, text_num_embeds=size, mel_dim=100),
        mel_spec_kwargs={"n_mel_channels": 100, "mel_spec_type": "vocos"},
        odeint_kwargs={"method": "euler"},
        vocab_char_map=vocabulary,
    )
    state = weights.random_state(arch_module.from_mapping(sizes), size, seed)
    missing, unexpected = model.transformer.load_state_dict(state, strict=False)
    assert not unexpected
    assert all("inv_freq" in name or "freqs_cis" in name for name in missing), missing
    return model.eval()


def relative(got: torch.Tensor, want: torch.Tensor) -> float:
    """||got - want|| / ||want||; NaN never compares small."""
    return float(torch.linalg.vector_norm(got - want) / torch.linalg.vector_norm(want))
