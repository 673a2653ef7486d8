"""What a person reads who made a mistake in the configuration."""

from __future__ import annotations

import re

import pytest

from ishowtts_ops import config
from ishowtts_ops.errors import ConfigError

MISTAKES = {
    "daemon: {port: x}": "daemon.port: must be a whole number (found 'x')",
    "daemon: {port: 80.5}": "daemon.port: must be a whole number (found 80.5)",
    "daemon: {port: 0}": "daemon.port: must be greater than or equal to 1 (found 0)",
    "daemon: 5": "daemon: must be a section with keys of its own (found 5)",
    "daemon: {enabled: 7}": "daemon.enabled: must be true or false (found 7)",
    "daemon: {batch: x}": "daemon.batch: must be 'auto', or must be a whole number (found 'x')",
    "daemon: {prot: 1}": "daemon.prot: there is no such key; was `port` meant?",
    "powr: 1": "powr: there is no such key; was `power` meant?",
    "xyzzy: 1": "xyzzy: there is no such key",
    "voices: {a: 1}": "voices: must be a list (found {'a': 1})",
    "voices: [{id: x, text: y}]": "voices.0.audio: must be given (found {'id': 'x', 'text': 'y'})",
    "power: {mode: }": "power.mode: must be text (found None)",
    "engine: {kind: f6}": "engine.kind: must be 'f5', 'espeak' or 'tone' (found 'f6')",
    "ishowtts: {path: here}": "ishowtts.path: must be an absolute path (found 'here')",
    "f5: {version: new}": "f5.version: must be a version such as 1.1.22 (found 'new')",
    "notify: {webhook: x}": "notify.webhook: must begin with http:// or https:// (found 'x')",
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_told_in_words(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "a file")
    assert [str(problem) for problem in caught.value.problems] == [MISTAKES[text]]


@pytest.mark.parametrize(
    "text", ["f5: {nfe: 7}\nf5: {device: cpu}\n", "power: {mode: max, fan: true, mode: leave}"]
)
def test_a_key_that_is_there_twice_is_not_lost_without_a_word(text: str) -> None:
    with pytest.raises(ConfigError, match=r"line [12]: '(f5|mode)' is there twice"):
        config.parse(text, "a file")


def test_anchors_and_merged_sections_still_work() -> None:
    text = "daemon: &a {port: 4000}\nvoices: []\nmeasure: {runs: 8}\npower: {mode: leave}\n"
    assert config.parse(text, "a file").daemon.port == 4000
    merged = "f5: {<<: {device: cpu, nfe: 9}, nfe: 7}"
    assert config.parse(merged, "a file").f5.nfe == 7


def test_no_pattern_is_shown_to_anybody() -> None:
    """Every key that has one says in words what it wants."""
    schema = str(config.Settings.model_json_schema())
    patterns = set(re.findall(r"'pattern': (?:'([^']*)'|\"([^\"]*)\")", schema))
    assert len(patterns) > 8, "the schema was not understood"
    texts = """
ishowtts: {path: "!"}
f5: {version: "!", hub_endpoint: "!", device: "!"}
engine: {python: "!"}
daemon: {api_keys: [{name: "!", hash: "!"}]}
voices: [{id: "!", audio: "!", text: x}]
notify: {webhook: "!"}
backend: {user: "!", url: "!", health: ["!"], canary: {method: "!", path: "!", expect: "!"}}
"""
    with pytest.raises(ConfigError) as caught:
        config.parse(texts, "a file")
    assert len(caught.value.problems) == 16
    for problem in caught.value.problems:
        assert "pattern" not in problem.what, problem
        assert "^" not in problem.what, problem
