"""Prepared voices on disk: the same again, or made anew; never believed when damaged."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import numpy as np
import pytest

from ishowtts_ops.daemon.prepared import MOST_BYTES, Prepared, PreparedStore

KEY = "a" * 64 + "-" + "b" * 16
MEL = np.random.default_rng(1).standard_normal((41, 100)).astype(np.float32)
VOICE = Prepared("key", "Hello, 你好. ", 0.44, 40, 0.08, MEL, ("odd",))


@pytest.fixture
def store(tmp_path: Path) -> PreparedStore:
    made = PreparedStore(tmp_path, "one", 100)
    made.keep(KEY, VOICE)
    return made


def only_file(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_what_was_kept_comes_back_bit_for_bit(store: PreparedStore) -> None:
    found = store.load(KEY)
    assert found == VOICE
    assert found is not None and np.array_equal(found.mel, MEL)


def test_another_version_or_content_finds_nothing(store: PreparedStore, tmp_path: Path) -> None:
    assert PreparedStore(tmp_path, "two", 100).load(KEY) is None
    assert store.load("c" * 64 + "-" + "b" * 16) is None


@pytest.mark.parametrize("key", ["", "../../etc/passwd", "a/b", KEY + "/..", KEY.upper()])
def test_only_our_own_names_are_ever_opened(tmp_path: Path, key: str) -> None:
    store = PreparedStore(tmp_path / "inside", "one", 100)
    store.keep(key, VOICE)
    assert store.load(key) is None
    assert list(tmp_path.rglob("*")) == []


@pytest.mark.parametrize("at", [0, 30, 200, 5000, -40, -1])
def test_any_flipped_byte_is_noticed_or_harmless(
    store: PreparedStore, tmp_path: Path, at: int
) -> None:
    file = only_file(tmp_path)
    data = bytearray(file.read_bytes())
    data[at] ^= 0xFF
    file.write_bytes(data)
    found = store.load(KEY)
    assert found is None or (found == VOICE and np.array_equal(found.mel, MEL))
    store.keep(KEY, VOICE)
    assert store.load(KEY) == VOICE


class Evil:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("evil"),))  # type: ignore[return-value]


def test_damage_of_every_kind_is_made_anew_and_nothing_is_executed(
    store: PreparedStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    file = only_file(tmp_path)
    good = file.read_bytes()
    pickled = io.BytesIO()
    np.savez(pickled, mel=np.array([Evil()], dtype=object), facts=MEL, digest=MEL)
    for data in (b"", good[:-100], b"x" * 99, pickle.dumps(Evil()), pickled.getvalue()):
        file.write_bytes(data)
        assert store.load(KEY) is None
    file.write_bytes(good + b"\0" * MOST_BYTES)
    assert store.load(KEY) is None
    assert not (tmp_path / "evil").exists()
    file.unlink()
    file.mkdir()
    assert store.load(KEY) is None


@pytest.mark.parametrize(
    "change",
    [
        {"mel": MEL[:, :50]},
        {"mel": MEL[:30]},
        {"mel": np.full_like(MEL, np.nan)},
        {"seconds": 0.0},
        {"rms": float("nan")},
        {"frames": 0},
    ],
)
def test_what_cannot_be_is_not_believed_whoever_wrote_it(
    tmp_path: Path, change: dict[str, object]
) -> None:
    import dataclasses

    store = PreparedStore(tmp_path, "one", 100)
    store.keep(KEY, dataclasses.replace(VOICE, **change))  # type: ignore[arg-type]
    assert store.load(KEY) is None


def test_what_nobody_needs_goes(store: PreparedStore, tmp_path: Path) -> None:
    other = "c" * 64 + "-" + "d" * 16
    store.keep(other, VOICE)
    PreparedStore(tmp_path, "older", 100).keep(KEY, VOICE)
    assert len(list(tmp_path.iterdir())) == 3
    store.keep_only({KEY})
    assert store.load(KEY) == VOICE
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_that_takes_nothing_costs_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    store = PreparedStore(tmp_path / "file", "one", 100)
    store.keep(KEY, VOICE)
    assert store.load(KEY) is None
    store.keep_only(set())
