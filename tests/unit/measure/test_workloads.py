from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops.errors import UsageError
from ishowtts_ops.measure import workloads
from ishowtts_ops.measure.workloads import FRAMES_PER_SECOND


@given(st.integers(2, 900), st.integers(0, 200))
def test_a_passage_has_exactly_its_size(size: int, start: int) -> None:
    text = workloads.passage(size, start)
    assert len(text.encode()) == size
    assert text.endswith(".")


def test_the_named_ones_are_as_documented() -> None:
    sizes = {name: len(w.utterances[0].text) for name, w in workloads.named().items()}
    assert sizes == {"S": 30, "M": 120, "L": 240, "R3": 120, "X": 450, "mixed": 32}
    references = {name: w.reference_s for name, w in workloads.named().items()}
    assert (references["S"], references["M"], references["R3"]) == (3.0, 6.0, 3.0)


def test_mixed_is_two_hundred_lengths_over_three_voices() -> None:
    rows = workloads.named()["mixed"].utterances
    assert len(rows) == len({row.text for row in rows}) == 200
    assert {row.voice_index for row in rows} == {0, 1, 2}
    seconds = [len(row.text) / workloads.BYTES_PER_SECOND for row in rows]
    assert min(seconds) * FRAMES_PER_SECOND + 3 * FRAMES_PER_SECOND >= 400
    assert max(seconds) * FRAMES_PER_SECOND + 6 * FRAMES_PER_SECOND <= 2060


def test_the_key_follows_the_content() -> None:
    plain = workloads.choose("m")
    assert plain.key == workloads.named()["M"].key
    assert len({w.key for w in workloads.named().values()}) == 6
    assert workloads.choose("M", voice="anna").key != plain.key
    assert workloads.choose("M", nfe=8).key != plain.key
    own = workloads.choose("M", ["Hello there."])
    assert (own.name, own.key) != ("M", plain.key)
    assert own.key == workloads.choose("S", ["Hello there."]).key


def test_kept_runs_are_asked_for_by_any_case() -> None:
    assert [workloads.kept_name(name) for name in ("m", "R3", "MIXED", "own")] == [
        "M",
        "R3",
        "mixed",
        "own",
    ]
    with pytest.raises(UsageError, match="no workload 'Q'"):
        workloads.kept_name("Q")


def test_mistakes_are_told() -> None:
    with pytest.raises(UsageError, match="no workload 'XL'"):
        workloads.choose("XL")
    with pytest.raises(UsageError, match="empty"):
        workloads.choose("M", ["  "])
