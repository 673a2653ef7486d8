"""The log-mel spectrogram F5-TTS and Vocos were trained on (24 kHz, 1024-point, hop 256)."""

from __future__ import annotations

import torch
from f5_tts.fast.reference import LruCache

SAMPLE_RATE = 24000
HOP = 256
N_FFT = 1024
FRAMES_PER_SECOND = SAMPLE_RATE / HOP

_TABLES: LruCache[tuple[torch.Tensor, torch.Tensor]] = LruCache(4)


def _tables(n_mels: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    def make() -> tuple[torch.Tensor, torch.Tensor]:
        window = torch.hann_window(N_FFT)
        bank = mel_bank(n_mels)
        return window.to(device), bank.to(device)

    return _TABLES.get_or_make((n_mels, str(device)), make)


def mel_bank(n_mels: int) -> torch.Tensor:
    """Triangular filters (n_fft/2 + 1, n_mels) on the HTK mel scale, not area-normalised."""
    top = SAMPLE_RATE // 2
    bins = torch.linspace(0, top, N_FFT // 2 + 1)
    # HTK scale: m = 2595 log10(1 + f / 700).
    highest = 2595.0 * torch.log10(torch.tensor(1.0 + top / 700.0)).item()
    points = 700.0 * (10.0 ** (torch.linspace(0.0, highest, n_mels + 2) / 2595.0) - 1.0)
    widths = points[1:] - points[:-1]
    slopes = points.unsqueeze(0) - bins.unsqueeze(1)
    falling = -slopes[:, :-2] / widths[:-1]
    rising = slopes[:, 2:] / widths[1:]
    return torch.clamp(torch.minimum(falling, rising), min=0.0)


def log_mel(wave: torch.Tensor, n_mels: int = 100) -> torch.Tensor:
    """(batch, samples) float32 at 24 kHz to (batch, samples // 256 + 1, n_mels), natural log."""
    window, bank = _tables(n_mels, wave.device)
    spectrum = torch.stft(
        wave, N_FFT, HOP, N_FFT, window, center=True, pad_mode="reflect", return_complex=True
    )
    mel = torch.matmul(spectrum.abs().transpose(1, 2), bank)
    return mel.clamp(min=1e-5).log()
