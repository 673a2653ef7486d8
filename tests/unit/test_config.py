from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ishowtts_ops import config
from ishowtts_ops.errors import ConfigError
from ishowtts_ops.resources import resource

DEFAULT = resource("config") / "ishowtts-ops.yaml"


def test_the_documented_default_is_the_built_in_one() -> None:
    assert config.load(DEFAULT) == config.Settings()


def test_the_documented_default_names_every_key() -> None:
    documented = yaml.safe_load(DEFAULT.read_text())
    built_in = config.Settings().model_dump(mode="json")
    assert {k: set(v) for k, v in documented.items() if isinstance(v, dict)} == {
        k: set(v) for k, v in built_in.items() if isinstance(v, dict)
    }
    assert set(documented) == set(built_in)


def test_every_problem_is_told_at_once() -> None:
    text = """
f5: {nfe: many, wieghts: hub}
daemon: {port: 70000}
power: {guard_seconds: 1}
voices:
  - {id: "a b", audio: here.wav, text: ""}
  - {id: x, audio: /x.wav, text: x}
nonsense: 1
"""
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "test.yaml")
    assert {problem.where for problem in caught.value.problems} == {
        "f5.nfe",
        "f5.wieghts",
        "daemon.port",
        "power.guard_seconds",
        "voices.0.id",
        "voices.0.audio",
        "voices.0.text",
        "nonsense",
    }
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("text", "where", "what"),
    [
        ("a: 1\nb: [", "line 2", ""),
        ("- 1", "", "mapping"),
        ("f5: {weights: file}", "f5.ckpt_file", "must be given"),
        ("daemon: {host: 0.0.0.0}", "daemon.host", "loopback"),
        (
            "voices: [{id: a, audio: /a, text: a}, {id: a, audio: /b, text: b}]",
            "voices",
            "twice",
        ),
    ],
)
def test_a_problem_names_its_key(text: str, where: str, what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, "test.yaml")
    assert [p.where for p in caught.value.problems] == [where]
    assert what in caught.value.problems[0].what


def test_a_missing_file_is_a_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such file"):
        config.load(tmp_path / "none.yaml")


def test_an_empty_file_means_the_defaults() -> None:
    assert config.parse("", "x") == config.Settings()


def test_settings_survive_being_written_out() -> None:
    text = "f5: {nfe: 16}\nvoices: [{id: a1, audio: /a, text: 你好}]"
    settings = config.parse(text, "x")
    assert config.parse(config.dump(settings), "x") == settings


@given(st.text(max_size=200))
def test_any_text_is_settings_or_a_config_error(text: str) -> None:
    try:
        config.parse(text, "x")
    except ConfigError as error:
        assert error.problems


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["f5", "nfe", "voices", "power", "mode", "id", "zz"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_yaml_is_settings_or_a_config_error(value: object) -> None:
    try:
        config.parse(yaml.safe_dump(value), "x")
    except ConfigError as error:
        assert error.problems
