"""Reference audio prepared once per voice, found again by its content.

The cache key is a hash of the samples themselves and of everything else the result depends on.
An earlier patch in the field keyed by `id()` of a temporary: Python reuses the address of a
freed object, so a request could get another voice's reference. A content key cannot do that.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import torch

V = TypeVar("V")


class LruCache(Generic[V]):
    """A bounded, thread-safe map that forgets what was used longest ago."""

    def __init__(self, max_items: int) -> None:
        if max_items < 1:
            raise ValueError(f"a cache of {max_items} items can hold nothing")
        self._max_items = max_items
        self._items: OrderedDict[Hashable, V] = OrderedDict()
        self._lock = threading.Lock()
        self.hits = 0
        self.misses = 0

    def get_or_make(self, key: Hashable, make: Callable[[], V]) -> V:
        """The item under `key`, made on a miss. Two threads that miss at once both make it."""
        with self._lock:
            if key in self._items:
                self._items.move_to_end(key)
                self.hits += 1
                return self._items[key]
            self.misses += 1
        # Made outside the lock: a slow voice must not hold up a cached one.
        item = make()
        with self._lock:
            self._put(key, item)
        return item

    def put(self, key: Hashable, item: V) -> None:
        """The item under `key` from here on, whatever was there."""
        with self._lock:
            self._put(key, item)

    def _put(self, key: Hashable, item: V) -> None:
        self._items[key] = item
        self._items.move_to_end(key)
        while len(self._items) > self._max_items:
            self._items.popitem(last=False)

    def __len__(self) -> int:
        with self._lock:
            return len(self._items)

    def clear(self) -> None:
        """Forget everything (the counters stay)."""
        with self._lock:
            self._items.clear()


def content_key(samples: torch.Tensor, *facts: object) -> str:
    """A hash of the samples' bytes, shape and type, and of every fact in `facts`."""
    data = samples.detach().to("cpu").contiguous()
    digest = hashlib.blake2b(digest_size=20)
    digest.update(repr((tuple(data.shape), str(data.dtype), facts)).encode())
    digest.update(data.view(torch.uint8).numpy().data if data.numel() else b"")
    return digest.hexdigest()


@dataclass(frozen=True)
class Prepared:
    """Audio ready to condition on: (1, samples) at the target rate on the device, and its RMS."""

    audio: torch.Tensor
    rms: torch.Tensor


KeyOf = Callable[..., Hashable]


class ReferenceCache:
    """`prepare` as upstream does it (mono, RMS, resampling, device), remembered per content."""

    def __init__(self, max_items: int = 32, key_of: KeyOf = content_key) -> None:
        self._cache: LruCache[Prepared] = LruCache(max_items)
        self._key_of = key_of

    @property
    def hits(self) -> int:
        return self._cache.hits

    def prepare(
        self,
        audio: torch.Tensor,
        rate: int,
        *,
        target_rms: float,
        target_rate: int,
        device: torch.device | str | None,
    ) -> Prepared:
        """`audio` is (channels, samples) float at `rate` Hz; the result is of these samples."""
        key = self._key_of(audio, rate, target_rms, target_rate, str(device))
        return self._cache.get_or_make(
            key,
            lambda: prepare(
                audio, rate, target_rms=target_rms, target_rate=target_rate, device=device
            ),
        )


def prepare(
    audio: torch.Tensor,
    rate: int,
    *,
    target_rms: float,
    target_rate: int,
    device: torch.device | str | None,
) -> Prepared:
    """Mix to mono, lift quiet audio to `target_rms`, resample, move to the device."""
    if audio.shape[0] > 1:
        audio = torch.mean(audio, dim=0, keepdim=True)
    rms = torch.sqrt(torch.mean(torch.square(audio)))
    if rms < target_rms:
        audio = audio * target_rms / rms
    if rate != target_rate:
        audio = resample(audio, rate, target_rate)
    return Prepared(audio.to(device), rms)


def resample(audio: torch.Tensor, rate: int, target_rate: int) -> torch.Tensor:
    """Band-limited resampling of (..., samples), the same filter that upstream uses."""
    # Imported here: loading torchaudio costs a start that needs no resampling half a second.
    from torchaudio.functional import resample as torchaudio_resample

    result: torch.Tensor = torchaudio_resample(audio, rate, target_rate)
    return result


REFERENCES = ReferenceCache()
_FILES: LruCache[tuple[torch.Tensor, int]] = LruCache(32)


def prepare_reference(
    audio: torch.Tensor, rate: int, target_rms: float, target_rate: int, device: Any
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the hook in `infer_batch_process` calls: prepared audio (1, samples) and its RMS."""
    from f5_tts.fast import switches

    if not switches.read().voices:
        made = prepare(audio, rate, target_rms=target_rms, target_rate=target_rate, device=device)
    else:
        made = REFERENCES.prepare(
            audio, rate, target_rms=target_rms, target_rate=target_rate, device=device
        )
    return made.audio, made.rms


def load_audio(path: str) -> tuple[torch.Tensor, int]:
    """Samples (channels, samples) float32 and rate of an audio file, cached by the file's bytes.

    Read with soundfile; what it cannot read goes to torchaudio, as upstream does for everything.
    """
    data = Path(path).read_bytes()
    key = hashlib.blake2b(data, digest_size=20).hexdigest()
    return _FILES.get_or_make(key, lambda: _read_audio(path))


def _read_audio(path: str) -> tuple[torch.Tensor, int]:
    import soundfile

    try:
        samples, rate = soundfile.read(path, dtype="float32", always_2d=True)
    except soundfile.LibsndfileError:
        import torchaudio

        loaded, loaded_rate = torchaudio.load(path)
        return loaded, int(loaded_rate)
    return torch.from_numpy(samples.T.copy()), int(rate)


def file_kept(paths: dict[str, str], key: str) -> bool:
    """Whether `paths[key]` is there and the file still exists; a stale entry is dropped."""
    path = paths.get(key)
    if path is None:
        return False
    if not Path(path).is_file():
        del paths[key]
        return False
    return True
