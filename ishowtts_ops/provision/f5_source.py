"""Where the F5-TTS sources are, and the step that brings them where they are not.

With an iShowTTS checkout they are its submodule third_party/F5-TTS. Without one they come from the
package index, whose wheel holds the same files as upstream's repository below `src/`, and become a
small git repository of one commit, so that the patch series finds the same shape everywhere.
"""

from __future__ import annotations

import base64
import csv
import enum
import hashlib
import io
import re
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ishowtts_ops.config import PREFIX, IShowTTS, Settings
from ishowtts_ops.errors import CommandFailed, OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.provision.git import Repo, make_repository
from ishowtts_ops.provision.ishowtts import CONFIG, checkouts, read_ishowtts
from ishowtts_ops.provision.patch_survey import PACKAGE, survey
from ishowtts_ops.provision.patch_text import blob_id
from ishowtts_ops.provision.series import Series, load_series
from ishowtts_ops.provision.wheels import offline_options
from ishowtts_ops.steps import Change, Ledger, Progress, command_line

OWN_SOURCE = f"{PREFIX}/F5-TTS"
SUBMODULE = "third_party/F5-TTS"
DISTRIBUTION = "f5-tts"
NOTE = "submodule-checked-out"
"""The ledger's note of a submodule that was empty before us."""
DOWNLOAD_TIMEOUT_S = 900.0


class SourceState(enum.Enum):
    PRESENT = "present"
    UNINITIALISED = "uninitialised"
    """The checkout names the submodule, and its folder is empty."""
    MISSING = "missing"


@dataclass(frozen=True)
class SourceLocation:
    """Where the engine's F5-TTS is, or should be.

    Attributes:
        path: box path of the source tree (holds src/f5_tts).
        checkout: box path of the iShowTTS checkout it is part of; None for our own copy.
        text: one sentence for a person.
        hint: what to do when it is not there.
    """

    path: str
    state: SourceState
    checkout: str | None
    text: str
    hint: str = ""

    @property
    def package_path(self) -> str:
        """Box path of the folder to put on PYTHONPATH."""
        return f"{self.path}/src"


def locate(host: Host, settings: Settings) -> SourceLocation:
    """Find the sources; changes nothing.

    The checkout is where settings.ishowtts.path is an iShowTTS checkout: it has the configuration
    file, or names the submodule. Where its configuration takes f5_tts from another source tree
    (`[f5] python_package_path = ".../src"`), that tree is meant.
    """
    checkout = settings.ishowtts.path.rstrip("/") or "/"
    if not _is_checkout(host, checkout):
        return _own(host)
    path = f"{checkout}/{SUBMODULE}"
    config = read_ishowtts(host, settings)
    told = config.python_path if config else None
    if told and told.endswith("/src") and host.is_dir(f"{told}/f5_tts"):
        path = told.removesuffix("/src")
    if host.is_dir(f"{path}/{PACKAGE}"):
        return SourceLocation(path, SourceState.PRESENT, checkout, f"F5-TTS is in {path}.")
    if host.listdir(path) not in ([], [".git"]):
        text = f"{path} is there, but holds no {PACKAGE}."
        hint = f"Move it away and run `git -C {checkout} submodule update --init {SUBMODULE}`."
        return SourceLocation(path, SourceState.MISSING, checkout, text, hint)
    repo = Repo.open(host, checkout)
    if repo is not None and SUBMODULE in repo.submodule_paths():
        text = f"The submodule {path} is not checked out."
        hint = f"Run `git -C {checkout} submodule update --init {SUBMODULE}`."
        return SourceLocation(path, SourceState.UNINITIALISED, checkout, text, hint)
    text = f"The iShowTTS checkout at {checkout} has no {SUBMODULE}, and git cannot bring it."
    hint = "Clone iShowTTS with `git clone --recurse-submodules`, or set ishowtts.path elsewhere."
    return SourceLocation(path, SourceState.MISSING, checkout, text, hint)


def version_of(host: Host, source: str, series: Series | None = None) -> str | None:
    """F5-TTS's version by the hashes of its files (patched or not); None when no table row fits."""
    return survey(host, source, series or load_series()).status.version


def _is_checkout(host: Host, path: str) -> bool:
    if host.is_file(f"{path}/{CONFIG}") or host.is_dir(f"{path}/{SUBMODULE}"):
        return True
    gitmodules = f"{path}/.gitmodules"
    return host.is_file(gitmodules) and SUBMODULE in host.read_text(gitmodules)


def _own(host: Host) -> SourceLocation:
    if host.is_dir(f"{OWN_SOURCE}/{PACKAGE}") and host.is_dir(f"{OWN_SOURCE}/.git"):
        text = f"F5-TTS is in {OWN_SOURCE}."
        return SourceLocation(OWN_SOURCE, SourceState.PRESENT, None, text)
    text = f"There is no iShowTTS checkout, and no F5-TTS in {OWN_SOURCE}."
    hint = "`ishowtts-ops install --only source` fetches it."
    return SourceLocation(OWN_SOURCE, SourceState.MISSING, None, text, hint)


class SourceStep:
    """Install step: the F5-TTS sources are there."""

    name = "source"
    title = "F5-TTS sources"

    def __init__(self, settings: Settings, ledger: Ledger, wheels: Path | None = None) -> None:
        self.settings = settings
        self.ledger = ledger
        self.wheels = wheels

    def diff(self, host: Host) -> Change | None:
        """Raises OpsError where git cannot bring a checkout's missing sources, or there is no
        checkout where the settings name one."""
        if self.settings.engine.kind != "f5":
            return None
        place = locate(host, self.settings)
        told = self.settings.ishowtts.path
        others = checkouts(host, but=told) if place.checkout is None else []
        if place.checkout is None and told != IShowTTS().path:
            found = f"There is one at {others[0]}: set" if others else "Correct"
            raise OpsError(
                f"ishowtts.path is {told}, and no iShowTTS checkout is there.",
                f"{found} ishowtts.path, or leave it out to use F5-TTS without iShowTTS.",
            )
        if place.checkout is None:
            return self._own_change(host, place, others)
        if place.state is SourceState.MISSING:
            raise OpsError(place.text, place.hint)
        if place.state is SourceState.PRESENT:
            return None
        return self._submodule_change(host, place.checkout, place.path)

    def _submodule_change(self, host: Host, checkout: str, path: str) -> Change:
        repo = Repo.open(host, checkout)
        assert repo is not None  # locate() said so
        existed = host.is_dir(path)

        def act(progress: Progress) -> None:
            if not existed:
                self.ledger.remember(path)
            objects = repo.submodule_git_dir(SUBMODULE)
            fetched = bool(objects and not host.lexists(objects))
            self.ledger.note(NOTE, {"checkout": checkout, "fetched": fetched})
            repo.submodule_init(SUBMODULE, progress)
            after = locate(host, self.settings)
            if after.state is not SourceState.PRESENT:
                raise OpsError(f"git brought the submodule, and still: {after.text}", after.hint)

        summary = f"check the submodule {SUBMODULE} out"
        shown = command_line(repo.submodule_init_argv(SUBMODULE))
        return Change(self.name, summary, (shown,), act)

    def _own_change(
        self, host: Host, place: SourceLocation, others: Sequence[str]
    ) -> Change | None:
        version = self.settings.f5.version
        if place.state is SourceState.PRESENT and _fetched_version(host) == version:
            return None
        preview = (
            command_line(download_argv(version, "DIR", self.wheels)),
            f"$ unpack into {OWN_SOURCE}/{PACKAGE}, with one git commit",
        )

        def act(progress: Progress) -> None:
            self.ledger.remember(OWN_SOURCE)
            bring(host, version, progress, self.wheels)

        summary = f"fetch F5-TTS {version}"
        if others:
            summary += f", not that of the iShowTTS in {others[0]} (ishowtts.path would name it)"
        return Change(self.name, summary, preview, act)


def undo_submodule(host: Host, ledger: Ledger, progress: Progress) -> tuple[str, ...]:
    """Leave a submodule that install checked out as it was: an empty folder, nothing fetched.

    Call it once the series is out of the sources.

    Returns:
        why it stays, as sentences: somebody has worked in it since.
    """
    note = ledger.notes.get(NOTE)
    repo = Repo.open(host, note["checkout"]) if isinstance(note, dict) else None
    if repo is None or not isinstance(note, dict):
        return ()
    path = f"{note['checkout']}/{SUBMODULE}"
    inner = Repo.open(host, path)
    if inner is None:
        return ()
    if inner.has_own_work():
        return (f"The submodule {path} stays: it has commits or a stash of its own.",)
    progress(f"emptying the submodule {path} again")
    try:
        repo.submodule_deinit(SUBMODULE, progress)
    except CommandFailed:
        return (f"The submodule {path} stays: files in it were changed.",)
    objects = repo.submodule_git_dir(SUBMODULE)
    if note["fetched"] and objects is not None:
        host.rmtree(objects)
        for folder in map(str, PurePosixPath(objects).parents):
            if folder.endswith(".git") or not host.rmdir(folder):
                break
    return ()


def bring(host: Host, version: str, progress: Progress, wheels: Path | None = None) -> None:
    """Fetch a version to OWN_SOURCE. Everything is made beside it and moved there at the end, so a
    run that is killed leaves a whole tree or none, never half of one, and litter that the next run
    removes.

    Raises:
        OpsError: the index has no such version, or what it gave is not what it should be.
    """
    new, old = f"{OWN_SOURCE}.new", f"{OWN_SOURCE}.old"
    for litter in (new, old):
        host.rmtree(litter)
    try:
        host.mkdir(f"{new}/download")
        wheel = download(host, version, host.path(f"{new}/download"), progress, wheels)
        progress(f"unpacking {wheel.name}")
        for name, data in read_wheel(wheel).items():
            host.write(f"{new}/tree/src/{name}", data)
        _check_version(host, f"{new}/tree", version)
        make_repository(host, f"{new}/tree", f"{DISTRIBUTION} {version}")
        if host.lexists(OWN_SOURCE):
            host.rename(OWN_SOURCE, old)
        host.rename(f"{new}/tree", OWN_SOURCE)
    finally:
        host.rmtree(new)
        host.rmtree(old)
    progress(f"F5-TTS {version} is in {OWN_SOURCE}")


def download_argv(version: str, folder: str, wheels: Path | None = None) -> list[str]:
    """The pip command; pip's own configuration says which index it asks, where there are no
    wheels at hand."""
    pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    options = ["--no-input", "--disable-pip-version-check", "--dest", folder]
    return [*pip, *options, *offline_options(wheels), f"{DISTRIBUTION}=={version}"]


def download(
    host: Host, version: str, folder: Path, progress: Progress, wheels: Path | None = None
) -> Path:
    """Let pip fetch the wheel of a version; pip checks the index's hash of it.

    Raises:
        OpsError: pip could not get it.
    """
    argv = download_argv(version, str(folder), wheels)
    answer = host.run_here(argv, timeout=DOWNLOAD_TIMEOUT_S, on_line=progress)
    if not answer.ok and "No matching distribution" in answer.output:
        raise OpsError(
            f"The package index has no {DISTRIBUTION} {version}.",
            "Correct f5.version in the configuration; if it is right, look at the network.",
        )
    answer.check("Look at the network and at pip's configuration, then run again.")
    found = sorted(folder.glob("*.whl"))
    if len(found) != 1:
        raise CommandFailed(argv, f"left {len(found)} wheels behind", answer.output)
    return found[0]


def read_wheel(wheel: Path) -> dict[str, bytes]:
    """The package's files ("f5_tts/api.py" …) of a wheel, each checked against its RECORD.

    Raises:
        OpsError: the wheel is damaged.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [info.filename for info in archive.infolist() if not info.is_dir()]
            record = next(name for name in names if name.endswith(".dist-info/RECORD"))
            hashes = _record_hashes(archive.read(record))
            files = {n: archive.read(n) for n in names if ".dist-info/" not in n}
    except (zipfile.BadZipFile, StopIteration, OSError) as error:
        raise OpsError(f"{wheel.name} is no wheel: {error}.", "Run again to fetch anew.") from None
    for name, data in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
        if hashes.get(name) != f"sha256={digest}" or ".." in PurePosixPath(name).parts:
            raise OpsError(
                f"{name} in {wheel.name} is not what its RECORD says.", "Run again to fetch anew."
            )
    if "f5_tts/api.py" not in files:
        raise OpsError(f"{wheel.name} does not hold f5_tts.")
    return files


def _record_hashes(data: bytes) -> dict[str, str]:
    rows: Sequence[Sequence[str]] = list(csv.reader(io.StringIO(data.decode("utf-8"))))
    return {row[0]: row[1] for row in rows if len(row) >= 2}


def _check_version(host: Host, tree: str, version: str) -> None:
    """Where the table knows a version, its files must have the table's hashes."""
    for path, blob in load_series().upstream.get(version, {}).items():
        full = f"{tree}/{path}"
        if not host.is_file(full) or blob_id(host.read_bytes(full)) != blob:
            raise OpsError(
                f"What the package index calls {DISTRIBUTION} {version} is not it: {path} differs.",
                "Nothing was changed. Look at where pip fetches from (`pip config list`).",
            )


def _fetched_version(host: Host) -> str | None:
    """The version we fetched: our own commit's message says it."""
    repo = Repo.open(host, OWN_SOURCE)
    subject = repo.subject() if repo else None
    found = re.fullmatch(rf"{DISTRIBUTION} (\S+)", subject or "")
    return found[1] if found else None
