"""Real F5-TTS sources in real git checkouts, patch series made on the spot, and processes that are
killed at a chosen moment."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ishowtts_ops.host import Host
from ishowtts_ops.provision.series import Series, load_series
from ishowtts_ops.sim.checkout import UPSTREAM, cached_wheel, make_checkout
from ishowtts_ops.steps import Ledger
from tests.support.tree import Entry, snapshot

VERSIONS = ("1.1.9", "1.1.17", "1.1.22")
CHECKOUT = "/opt/ishowtts"
SOURCE = f"{CHECKOUT}/third_party/F5-TTS"
API = "src/f5_tts/api.py"
UTILS = "src/f5_tts/infer/utils_infer.py"
PLAIN_GIT = {
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_AUTHOR_NAME": "somebody",
    "GIT_AUTHOR_EMAIL": "somebody@localhost",
    "GIT_COMMITTER_NAME": "somebody",
    "GIT_COMMITTER_EMAIL": "somebody@localhost",
    "GIT_ALLOW_PROTOCOL": "file",
}


def cache_folder() -> Path:
    """Where wheels are kept between runs: $ISHOWTTS_TEST_CACHE or ~/.cache/ishowtts-ops-tests."""
    told = os.environ.get("ISHOWTTS_TEST_CACHE")
    return Path(told) if told else Path.home() / ".cache" / "ishowtts-ops-tests"


def wheel(version: str) -> Path:
    """The F5-TTS wheel of a version; fetched by pip the first time."""
    return cached_wheel(Host.at("/"), version, cache_folder())


def git(folder: Path, *words: str, check: bool = True) -> str:
    """Run the real git as an ordinary user would, without this machine's configuration."""
    done = subprocess.run(
        ["git", "-C", str(folder), *words],
        env={**os.environ, **PLAIN_GIT},
        capture_output=True,
        text=True,
    )
    assert not check or done.returncode == 0, f"git {' '.join(words)}: {done.stderr}"
    return done.stdout


@dataclass(frozen=True)
class Box:
    """A box in a folder with an iShowTTS-shaped checkout."""

    host: Host

    @property
    def source(self) -> Path:
        return self.host.path(SOURCE)

    @property
    def ledger(self) -> Ledger:
        return Ledger.open(self.host)

    def git(self, *words: str, check: bool = True) -> str:
        return git(self.source, *words, check=check)

    def read(self, path: str) -> bytes:
        return (self.source / path).read_bytes()

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace text that is there exactly once."""
        data = self.read(path)
        assert data.count(old.encode()) == 1, f"{path} has {data.count(old.encode())} × {old!r}"
        (self.source / path).write_bytes(data.replace(old.encode(), new.encode()))

    def snapshot(self) -> dict[str, Entry]:
        """Everything in the checkout, git's own files left out."""
        hidden = (f"{CHECKOUT}/.git/*",)
        return snapshot(self.host.root, (CHECKOUT,), hidden)


def build_template(folder: Path, version: str, also: Sequence[str] = ()) -> Path:
    """A box's root with a checkout, to be copied by each test."""
    folder.mkdir()
    host = Host.at(folder)
    make_checkout(host, version=version, cache=cache_folder(), also=also)
    # Few files copy faster: pack the objects, and leave upstream's repository without its files.
    git(host.path(UPSTREAM), "gc", "-q")
    host.rmtree(f"{UPSTREAM}/src")
    git(host.path(SOURCE), "gc", "-q")
    return folder


def copy_box(template: Path, target: Path) -> Box:
    """A copy of a template: owners and modes as there."""
    shutil.copytree(template, target, symlinks=True)
    return Box(Host.at(target))


def commit_upstream(box: Box, path: str, change: Callable[[bytes], bytes]) -> str:
    """A new commit in the repository that the submodule comes from, checked out in the submodule;
    returns its hash."""
    upstream = box.host.path(UPSTREAM)
    git(upstream, "checkout", "-q", "--", ".")
    file = upstream / path
    file.write_bytes(change(file.read_bytes()))
    git(upstream, "commit", "-q", "-a", "-m", "upstream moves on")
    box.git("fetch", "-q", str(upstream), "HEAD")
    box.git("checkout", "-q", "FETCH_HEAD")
    return git(upstream, "rev-parse", "HEAD").strip()


def diff(path: str, old: bytes, new: bytes, folder: Path) -> bytes:
    """What git makes of two versions of a file."""
    for side, data in (("a", old), ("b", new)):
        file = folder / side / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    words = ["diff", "--no-index", "--no-prefix", "--no-color", f"a/{path}", f"b/{path}"]
    done = subprocess.run(
        ["git", *words], cwd=folder, env={**os.environ, **PLAIN_GIT}, capture_output=True
    )
    assert done.returncode == 1, done.stderr
    return done.stdout


def write_series(
    folder: Path,
    patches: Mapping[str, bytes],
    added: Mapping[str, bytes],
    *,
    upstream: Sequence[tuple[str, str, str]] = (),
    legacy: Sequence[tuple[str, str, str, str]] = (),
) -> Series:
    """A series folder from its parts; the keys of `patches` are lines of the `series` file."""
    folder.mkdir(parents=True)
    (folder / "series").write_text("# a series for a test\n" + "\n".join(patches) + "\n")
    for line, data in patches.items():
        (folder / line.split()[0]).write_bytes(data)
    for path, data in added.items():
        file = folder / "files" / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    for name, rows in (("upstream.tsv", upstream), ("legacy.tsv", legacy)):
        (folder / name).write_text("".join("\t".join(row) + "\n" for row in rows))
    return load_series(folder)


def killed_at(moment: int, action: Callable[[], object]) -> bool:
    """Run `action` in a process of its own, which is killed (SIGKILL) just before its effect number
    `moment` on the file system: a file renamed into place, removed, a folder made.

    Returns:
        False when it ended by itself before that.
    """
    child = os.fork()
    if child == 0:
        _doomed(moment, action)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "the process failed; see its traceback"
    return False


def _doomed(moment: int, action: Callable[[], object]) -> None:
    seen = 0

    def watch(event: str, _: tuple[object, ...]) -> None:
        nonlocal seen
        if event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chown"):
            if seen == moment:
                os.kill(os.getpid(), signal.SIGKILL)
            seen += 1

    code = 1
    try:
        sys.addaudithook(watch)
        action()
        code = 0
    except BaseException:  # noqa: BLE001 (the child must never return into pytest)
        traceback.print_exc()
    finally:
        os._exit(code)
