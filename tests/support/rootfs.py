"""The bare Debian-family root file system that every box of the box tests starts from.

Built once by debootstrap and kept in a cache folder, because building takes about a minute and
copying it a moment. The release is that of this machine, so that the interpreter which runs the
tests finds the C library it was linked against; the mirror is the one this machine's apt uses.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

PACKAGES = (
    "ca-certificates",
    "dbus",
    "espeak-ng",
    "git",
    "libnss-systemd",
    "procps",
    "python3",
    "systemd",
    "systemd-sysv",
)
"""Beside the minimal base: real systemd with a bus, Python for the stand-in tools, git for the
patch series, espeak-ng for the light voice, procps for `pgrep` and `ps`."""

NOT_ON_A_JETSON = (
    "apt-daily-upgrade.timer",
    "apt-daily.timer",
    "console-getty.service",
    "dpkg-db-backup.timer",
    "e2scrub_all.timer",
    "e2scrub_reap.service",
    "fstrim.timer",
    "getty@tty1.service",
    "systemd-pstore.service",
)
"""Masked: a container has no disks or terminals to look after, and a boot is to be quick."""

DEAD_WEIGHT = (
    "usr/share/doc",
    "usr/share/info",
    "usr/share/locale",
    "usr/share/man",
    "var/cache/apt",
    "var/lib/apt/lists",
)

RECIPE = 2
"""Raise it when what is done after debootstrap changes, so that caches are rebuilt."""


class RootfsError(Exception):
    """The base could not be built; the message ends with debootstrap's last words."""


@dataclasses.dataclass(frozen=True)
class AptSource:
    """Where this machine's apt takes its own release from."""

    mirror: str
    components: tuple[str, ...]
    keyring: str | None


def cache_folder() -> Path:
    """$ISHOWTTS_TEST_CACHE, or a folder below the user's cache."""
    chosen = os.environ.get("ISHOWTTS_TEST_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ishowtts-ops-tests"


def why_not() -> str | None:
    """The reason why no box can be booted on this machine, or None when one can."""
    if platform.system() != "Linux":
        return "box tests need Linux"
    if os.geteuid() != 0:
        return "box tests boot systemd in a container and need root"
    for tool, package in (("systemd-nspawn", "systemd-container"), ("debootstrap", "debootstrap")):
        if shutil.which(tool) is None:
            return f"box tests need {tool} (package {package})"
    if codename() is None:
        return "box tests need a Debian or Ubuntu machine: the box gets the same release"
    if apt_source() is None:
        return "apt's configuration names no mirror for this machine's own release"
    return None


def codename() -> str | None:
    """This machine's release, such as `bookworm`."""
    with contextlib.suppress(OSError):
        for line in Path("/etc/os-release").read_text(encoding="utf-8").splitlines():
            if line.startswith("VERSION_CODENAME="):
                return line.partition("=")[2].strip('"') or None
    return None


def apt_source(etc_apt: Path = Path("/etc/apt")) -> AptSource | None:
    """The first of apt's sources that holds this machine's release itself."""
    files = [etc_apt / "sources.list", *sorted((etc_apt / "sources.list.d").glob("*"))]
    for file in files:
        if not file.is_file():
            continue
        text = file.read_text(encoding="utf-8", errors="replace")
        entries = _deb822(text) if file.suffix == ".sources" else _one_line(text)
        for suites, source in entries:
            if codename() in suites and source.mirror.startswith(("http://", "https://")):
                return source
    return None


def _one_line(text: str) -> Iterator[tuple[list[str], AptSource]]:
    """Entries of the form `deb [options] mirror suite component…`."""
    for line in text.splitlines():
        words = line.split("#")[0].replace("[", " [ ").replace("]", " ] ").split()
        if not words or words[0] != "deb":
            continue
        options: list[str] = []
        if "]" in words:
            end = words.index("]")
            options, words = words[2:end], [words[0], *words[end + 1 :]]
        signed = [o.partition("=")[2] for o in options if o.startswith("signed-by=")]
        if len(words) >= 4:
            yield [words[2]], AptSource(words[1], tuple(words[3:]), signed[0] if signed else None)


def _deb822(text: str) -> Iterator[tuple[list[str], AptSource]]:
    """Entries of a `.sources` file: paragraphs of `Key: value`."""
    for paragraph in text.split("\n\n"):
        fields: dict[str, str] = {}
        for line in paragraph.splitlines():
            if not line.startswith(("#", " ")) and ":" in line:
                key, _, value = line.partition(":")
                fields[key.strip().lower()] = value.strip()
        if "deb" not in fields.get("types", "").split() or not fields.get("uris"):
            continue
        keyring = fields.get("signed-by", "")
        source = AptSource(
            fields["uris"].split()[0],
            tuple(fields.get("components", "").split()),
            keyring if keyring.startswith("/") else None,
        )
        yield fields.get("suites", "").split(), source


def base_rootfs() -> Path:
    """The base, built first when the cache has none for this list of packages.

    Raises:
        RootfsError: debootstrap failed.
    """
    recipe = repr((codename(), platform.machine(), PACKAGES, NOT_ON_A_JETSON, DEAD_WEIGHT, RECIPE))
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    base = cache_folder() / f"rootfs-{digest}"
    cache_folder().mkdir(parents=True, exist_ok=True)
    with (cache_folder() / f"rootfs-{digest}.lock").open("w", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not base.is_dir():
            unfinished = base.with_name(base.name + ".unfinished")
            _remove(unfinished)
            _debootstrap(unfinished)
            _trim(unfinished)
            unfinished.rename(base)
    return base


def _debootstrap(target: Path) -> None:
    source = apt_source()
    suite = codename()
    assert source is not None and suite is not None, "why_not() was not asked first"
    argv = ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}"]
    if source.components:
        argv.append(f"--components={','.join(source.components)}")
    if source.keyring and Path(source.keyring).is_file():
        argv.append(f"--keyring={source.keyring}")
    done = subprocess.run(
        [*argv, suite, str(target), source.mirror],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        tail = "\n".join(done.stdout.splitlines()[-15:])
        _remove(target)
        raise RootfsError(f"debootstrap ended with status {done.returncode}:\n{tail}")


def _trim(root: Path) -> None:
    for folder in DEAD_WEIGHT:
        shutil.rmtree(root / folder, ignore_errors=True)
        (root / folder).mkdir(parents=True, exist_ok=True)
    for unit in NOT_ON_A_JETSON:
        link = root / "etc/systemd/system" / unit
        link.unlink(missing_ok=True)
        link.symlink_to("/dev/null")
    default = root / "etc/systemd/system/default.target"
    default.unlink(missing_ok=True)
    default.symlink_to("/lib/systemd/system/multi-user.target")  # a box that serves has no desktop
    (root / "var/log/journal").mkdir(exist_ok=True)
    (root / "etc/hostname").write_text("jetson\n", encoding="utf-8")


def _remove(tree: Path) -> None:
    """Remove a half-built base; debootstrap that was killed leaves /proc and /sys mounted in it."""
    if not tree.exists():
        return
    for line in reversed(Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()):
        point = line.split()[1]
        if point.startswith(f"{tree}/"):
            subprocess.run(["umount", "--lazy", point], check=False)
    shutil.rmtree(tree)
