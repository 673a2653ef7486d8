"""An iShowTTS checkout on a box, for demonstrations and tests.

What stands in for something says so here: the superproject is shaped like iShowTTS's (its
configuration, its submodule), but holds none of its code, and the reference recordings are
synthesised. Everything else is real: git, the submodule, and F5-TTS's sources in it, which come
from the package index.
"""

from __future__ import annotations

import posixpath
import shutil
import tempfile
import wave
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.provision.f5_source import download, read_wheel
from ishowtts_ops.provision.series import version_key

Progress = Callable[[str], None]

UPSTREAM = "/srv/git/F5-TTS"
"""Box path of the repository that the submodule is cloned from."""

GIT_TIMEOUT_S = 120.0

_WHO = {
    f"GIT_{role}_{what}": value
    for role in ("AUTHOR", "COMMITTER")
    for what, value in (
        ("NAME", "iShowTTS"),
        ("EMAIL", "box@localhost"),
        ("DATE", "1759200000 +0000"),
    )
}
_GIT = (
    "git",
    "-c",
    "init.defaultBranch=main",
    "-c",
    "protocol.file.allow=always",
    "-c",
    "core.autocrlf=false",
    "-c",
    "advice.detachedHead=false",
    "-c",
    "init.templateDir=",
)


@dataclass(frozen=True)
class SimVoice:
    """A synthesised reference.

    Attributes:
        speaker: espeak-ng's voice; its place in the list gives the pitch where there is none.
    """

    id: str
    text: str
    language: str
    speaker: str


VOICES = (
    SimVoice(
        "host",
        "Good evening everybody, and welcome to the stream. Tonight I read your messages aloud.",
        "en",
        "en",
    ),
    SimVoice(
        "guest",
        "Hello from the other side of the table. I am the second voice, and I speak up now.",
        "en",
        "en+f3",
    ),
    SimVoice(
        "announcer",
        "Attention please. The next round begins in a moment, so find your seats and enjoy it.",
        "en",
        "en+m7",
    ),
)


def cached_wheel(
    host: Host, version: str, cache: Path, progress: Progress = lambda _: None
) -> Path:
    """The F5-TTS wheel of a version in `cache` (real path), fetched by pip when it is not there."""
    wheel = cache / f"f5_tts-{version}-py3-none-any.whl"
    if not wheel.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache, prefix=".fetch-") as folder:
            download(host, version, Path(folder), progress).replace(wheel)
    return wheel


def make_checkout(
    host: Host,
    *,
    version: str = "1.1.9",
    box_path: str = "/opt/ishowtts",
    cache: Path,
    voices: Sequence[SimVoice] = VOICES,
    also: Sequence[str] = (),
    progress: Progress = lambda _: None,
) -> None:
    """Build the checkout at `box_path`, with F5-TTS `version` as its submodule.

    Args:
        cache: real folder of wheels; a second call works offline.
        also: further versions that the submodule's repository holds, each tagged `v<version>`.

    Raises:
        OpsError: something is at `box_path` already, or a wheel cannot be had.
    """
    if host.listdir(box_path):
        raise OpsError(f"{box_path} is not empty.", "Name another folder for the checkout.")
    _make_upstream(host, sorted({version, *also}, key=version_key), cache, progress)
    progress(f"making an iShowTTS-shaped checkout in {box_path}")
    host.mkdir(box_path)
    host.write(
        f"{box_path}/README.md", "A checkout shaped like iShowTTS's, made by a simulation.\n"
    )
    host.write(f"{box_path}/.gitignore", "/target/\n/data/cache/\n__pycache__/\n")
    host.write(f"{box_path}/config/ishowtts.toml", configuration(voices))
    for number, voice in enumerate(voices):
        host.mkdir(f"{box_path}/data/voices")
        speak(host, voice, f"{box_path}/data/voices/{voice.id}.wav", pitch_hz=110.0 + 45 * number)
    git = _Git(host, box_path)
    git("init", "-q")
    url = posixpath.relpath(UPSTREAM, box_path)
    git("submodule", "--quiet", "add", "--name", "F5-TTS", url, "third_party/F5-TTS")
    _Git(host, f"{box_path}/third_party/F5-TTS")("checkout", "-q", "--detach", f"v{version}")
    git("add", "--all")
    git("commit", "-q", "--no-gpg-sign", "-m", "iShowTTS, as a simulation has it")


def configuration(voices: Sequence[SimVoice]) -> str:
    """config/ishowtts.toml with the sections and keys that iShowTTS's own file has."""
    head = f"""\
# iShowTTS backend
bind_addr = "0.0.0.0:27121"
default_voice = "{voices[0].id if voices else ""}"

[api]
max_parallel = 1

[f5]
model = "F5TTS_v1_Base"
python_package_path = "../third_party/F5-TTS/src"
vocab_file = "../third_party/F5-TTS/src/f5_tts/infer/examples/vocab.txt"
hf_cache_dir = "../data/cache/huggingface"
device = "cuda"
default_nfe_step = 7  # Don't change unless testing
"""
    tables = [
        f"""
[[f5.voices]]
id = "{voice.id}"
reference_audio = "../data/voices/{voice.id}.wav"
reference_text = "{voice.text}"
language = "{voice.language}"
engine_label = "F5-TTS"
preload = true
"""
        for voice in voices
    ]
    tail = """
[shimmy]
enabled = false

[index_tts]
enabled = false

[danmaku.bilibili]
enabled = false
"""
    return head + "".join(tables) + tail


def speak(host: Host, voice: SimVoice, box_path: str, *, pitch_hz: float) -> None:
    """A recording of the voice's text: by espeak-ng where this machine has it, else a hum of about
    the same length, which is no speech but lies in a voice's range."""
    import numpy as np  # a tenth of a second, which every verb would pay for the demo

    real = host.path(box_path)
    if shutil.which("espeak-ng") is not None:
        argv = ["espeak-ng", "-v", voice.speaker, "-w", str(real), voice.text]
        if host.run_here(argv, timeout=GIT_TIMEOUT_S).ok and real.is_file():
            return
    rate = 24_000
    seconds = len(voice.text) / 15.0  # a usual speed, in characters a second
    at = np.arange(int(rate * seconds)) / rate
    syllables = np.abs(np.sin(np.pi * 4.0 * at)) * (np.sin(np.pi * 0.7 * at) > -0.9)
    glide = pitch_hz * (1.0 + 0.08 * np.sin(2 * np.pi * 0.5 * at))
    phase = 2 * np.pi * np.cumsum(glide) / rate
    hum = sum(np.sin(k * phase) / k for k in range(1, 12)) * syllables
    samples = (hum / np.max(np.abs(hum)) * 0.5 * 32767).astype("<i2")
    with wave.open(str(real), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", "not compressed"))
        file.writeframes(samples.tobytes())


def _make_upstream(host: Host, versions: Sequence[str], cache: Path, progress: Progress) -> None:
    """F5-TTS's repository: one commit and tag a version, the wheel's files below src/."""
    host.rmtree(UPSTREAM)
    host.mkdir(UPSTREAM)
    git = _Git(host, UPSTREAM)
    git("init", "-q")
    for version in versions:
        files = read_wheel(cached_wheel(host, version, cache, progress))
        host.rmtree(f"{UPSTREAM}/src")
        _write_all(host.path(UPSTREAM), {f"src/{name}": data for name, data in files.items()})
        _write_all(host.path(UPSTREAM), {".gitignore": b"__pycache__/\n*.py[cod]\n"})
        git("add", "--all")
        git("commit", "-q", "--no-gpg-sign", "-m", f"v{version}")
        git("tag", f"v{version}")


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """Plain writes: a simulation needs no fsync for each of 80 files."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


@dataclass(frozen=True)
class _Git:
    host: Host
    folder: str

    def __call__(self, *words: str) -> None:
        argv = [*_GIT, "-C", str(self.host.path(self.folder)), *words]
        self.host.run_here(argv, timeout=GIT_TIMEOUT_S, env=_WHO).check()
