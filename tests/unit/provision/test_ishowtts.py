"""Reading config/ishowtts.toml: what is used, what is tolerated, what is said."""

from __future__ import annotations

from pathlib import Path

import pytest
import soundfile

from ishowtts_ops.config import Settings
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.provision.ishowtts import IShowTTSConfig, read_ishowtts
from ishowtts_ops.sim.checkout import VOICES, make_checkout
from tests.support.f5 import CHECKOUT, SOURCE, Box, cache_folder, git

CONFIG = f"{CHECKOUT}/config/ishowtts.toml"


def read(root: Path, text: str | bytes) -> IShowTTSConfig:
    host = Host.at(root)
    host.write(CONFIG, text)
    config = read_ishowtts(host.read_only(), Settings())
    assert config is not None
    return config


def test_no_checkout_no_configuration(tmp_path: Path) -> None:
    assert read_ishowtts(Host.at(tmp_path).read_only(), Settings()) is None


def test_what_an_editor_on_windows_leaves_is_read(tmp_path: Path) -> None:
    config = read(tmp_path, b'\xef\xbb\xbf[f5]\r\nmodel = "F5TTS_Base"\r\n')
    assert (config.model, config.problems, config.readable) == ("F5TTS_Base", (), True)
    assert not read(tmp_path, b"[f5\n").readable


def test_a_real_checkout(box: Box) -> None:
    config = read_ishowtts(box.host.read_only(), Settings())
    assert config is not None and config.problems == ()
    assert config.python_path == f"{SOURCE}/src"
    assert config.vocab_file == f"{SOURCE}/src/f5_tts/infer/examples/vocab.txt"
    assert config.hf_cache_dir == f"{CHECKOUT}/data/cache/huggingface"
    assert (config.model, config.device, config.default_nfe_step) == ("F5TTS_v1_Base", "cuda", 7)
    assert config.default_voice == "host"
    assert [voice.id for voice in config.voices] == [voice.id for voice in VOICES]
    for voice in config.voices:
        sound = soundfile.info(str(box.host.path(voice.audio)))
        assert 3 < sound.duration < 12, "a reference F5-TTS can use"
        assert 8 < len(voice.text) / sound.duration < 30, "text and recording belong together"


def test_a_checkout_is_a_real_submodule(box: Box) -> None:
    checkout = box.host.path(CHECKOUT)
    assert git(checkout, "status", "--porcelain") == ""
    commit = box.git("rev-parse", "HEAD").strip()
    assert git(checkout, "submodule", "status").split() == [
        commit,
        "third_party/F5-TTS",
        "(v1.1.9)",
    ]
    git(checkout, "submodule", "update", "--init")
    assert git(checkout, "submodule", "foreach", "-q", "git status --porcelain") == ""


def test_a_checkout_is_never_built_over_something(box: Box) -> None:
    with pytest.raises(OpsError, match="is not empty"):
        make_checkout(box.host, cache=cache_folder())


def test_unknown_sections_and_absolute_paths(tmp_path: Path) -> None:
    (tmp_path / "weights.pt").write_bytes(b"")
    config = read(
        tmp_path,
        'future = 1\n[api]\nmax_parallel = 3\n[f5]\nckpt_file = "/weights.pt"\nnovelty = true\n'
        "[danmaku.douyin]\nroom = 5\n",
    )
    assert config.ckpt_file == "/weights.pt" and config.problems == ()
    assert config.voices == () and config.default_nfe_step is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[f5\n", "not valid TOML"),
        (b"\xff\xfe", "not UTF-8"),
        ("", "f5 is not there"),
        ("f5 = 3\n", "f5 must be a table"),
        ("[f5]\nmodel = 3\n", "f5.model must be text, and is 3"),
        ("[f5]\ndefault_nfe_step = 0\n", "f5.default_nfe_step must be a whole number"),
        ("[f5]\ndefault_nfe_step = true\n", "f5.default_nfe_step must be a whole number"),
        ('[f5]\nckpt_file = "../no.pt"\n', f"names {CHECKOUT}/no.pt, which is not there"),
        ('[f5]\nvoices = "all"\n', "f5.voices must be a list of tables"),
        ('[f5]\n[[f5.voices]]\nid = "a"\n', "'a' without reference_audio, reference_text"),
        ("[f5]\n[[f5.voices]]\n", "voice number 1 without id"),
        (
            '[f5]\n[[f5.voices]]\nid = "a"\nreference_audio = "a.wav"\nreference_text = "b"\n',
            f"'a', whose {CHECKOUT}/config/a.wav is missing",
        ),
        (
            '[f5]\n[[f5.voices]]\nid = "a b"\nreference_audio = "a.wav"\nreference_text = "b"\n',
            "'a b', which is no usable name",
        ),
    ],
)
def test_problems_are_sentences(tmp_path: Path, text: str | bytes, says: str) -> None:
    problems = read(tmp_path, text).problems
    assert any(says in problem for problem in problems), problems
    assert all(problem.startswith(CONFIG) and problem.endswith(".") for problem in problems)


def test_several_problems_at_once(tmp_path: Path) -> None:
    voice = '[[f5.voices]]\nid = "a"\nreference_audio = "a.wav"\nreference_text = "b"\n'
    text = 'default_voice = "z"\n[f5]\nmodel = 1\n' + voice + voice
    config = read(tmp_path, text)
    assert len(config.problems) == 4, config.problems
    assert config.default_voice is None and len(config.voices) == 1
