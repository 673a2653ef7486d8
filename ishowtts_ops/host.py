"""The one door to a box: files below its root, and its programs.

A *box* is a machine (`root == "/"`), a simulated Jetson in a folder, or an offline root file system
(an SD card's). All paths given to a `Host` are absolute **box paths** ("/etc/nvpmodel.conf"); the
host maps them below its root, following the box's own symlinks, so that an absolute link inside a
box never leads out of it.

Nothing else in the package writes a file on a box or runs its programs. Processes themselves are
started in `process.py`, which only this module uses.
"""

from __future__ import annotations

import contextlib
import enum
import fnmatch
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from ishowtts_ops.errors import (
    NeedsRoot,
    OpsError,
    ReadOnlyViolation,
    ToolMissing,
    UsageError,
)
from ishowtts_ops.lockfile import hold
from ishowtts_ops.paths import resolve
from ishowtts_ops.process import BOX_PATH, become, clean_env, pipe, service_env, spawn, start
from ishowtts_ops.process import Child as Child
from ishowtts_ops.process import Result as Result

SIM_MARKER = "/etc/ishowtts-sim.json"
"""Present on a simulated box only; see `ishowtts_ops.sim`."""

DEFAULT_TIMEOUT_S = 20.0


class BoxKind(enum.Enum):
    """How commands of the box can be run."""

    LIVE = "live"
    SIMULATED = "simulated"
    OFFLINE = "offline"


@dataclass(frozen=True)
class Stat:
    """The part of a file's metadata that install restores: permission bits and owner."""

    mode: int
    uid: int
    gid: int
    size: int


@dataclass(frozen=True)
class DiskSpace:
    """Bytes of a file system."""

    total: int
    free: int


class Host:
    """A box that may be read and changed."""

    def __init__(self, root: Path, kind: BoxKind) -> None:
        self.root = root
        self.kind = kind

    @classmethod
    def at(cls, root: Path | str = "/") -> Host:
        """Open the box at `root`; its kind is read off the tree.

        Raises:
            UsageError: `root` is not a folder.
        """
        real = Path(root).resolve()
        if not real.is_dir():
            raise UsageError(
                f"{root} is not a folder, so it cannot be a box's root.",
                "Give --root the folder that holds the box's etc/, usr/ and var/.",
            )
        if real == Path("/"):
            return cls(real, BoxKind.LIVE)
        simulated = (real / SIM_MARKER.lstrip("/")).is_file()
        return cls(real, BoxKind.SIMULATED if simulated else BoxKind.OFFLINE)

    def read_only(self) -> ReadOnlyHost:
        """The same box with every changing verb refused."""
        return ReadOnlyHost(self.root, self.kind)

    @property
    def simulated(self) -> bool:
        """True on a simulated box, also where the simulation is mounted over a live system."""
        return self.exists(SIM_MARKER)

    # ---- paths -------------------------------------------------------------------------------

    def path(self, box_path: str, *, follow_last: bool = True) -> Path:
        """The real path of a box path, symlinks resolved inside the box.

        Args:
            box_path: absolute path as the box sees it.
            follow_last: resolve the last component too when it is a symlink.

        Raises:
            OpsError: the path is relative, or loops.
        """
        return resolve(self.root, box_path, follow_last=follow_last)

    def box_path(self, real: Path) -> str:
        """The inverse of `path` for a path below the root."""
        return "/" + str(real.relative_to(self.root)) if real != self.root else "/"

    # ---- reading -----------------------------------------------------------------------------

    def read_bytes(self, box_path: str, limit: int = -1) -> bytes:
        """Raises OSError as `open` does (FileNotFoundError, PermissionError, BlockingIOError …)."""
        with self.path(box_path).open("rb") as file:
            return file.read(limit)

    def read_text(self, box_path: str) -> str:
        """A file as UTF-8; undecodable bytes become U+FFFD, NULs stay."""
        return self.read_bytes(box_path).decode("utf-8", errors="replace")

    def sha256(self, box_path: str) -> str:
        """Hex digest of a file's content."""
        return hashlib.sha256(self.read_bytes(box_path)).hexdigest()

    def exists(self, box_path: str) -> bool:
        """True for anything that can be reached, a dangling symlink excluded."""
        return self.path(box_path).exists()

    def lexists(self, box_path: str) -> bool:
        """True also for a dangling symlink."""
        return os.path.lexists(self.path(box_path, follow_last=False))

    def is_dir(self, box_path: str) -> bool:
        return self.path(box_path).is_dir()

    def is_file(self, box_path: str) -> bool:
        return self.path(box_path).is_file()

    def is_symlink(self, box_path: str) -> bool:
        return self.path(box_path, follow_last=False).is_symlink()

    def readlink(self, box_path: str) -> str:
        return os.readlink(self.path(box_path, follow_last=False))

    def stat(self, box_path: str) -> Stat:
        info = self.path(box_path, follow_last=False).lstat()
        return Stat(stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid, info.st_size)

    def listdir(self, box_path: str) -> list[str]:
        """Names in a folder, sorted; empty when it does not exist."""
        try:
            return sorted(os.listdir(self.path(box_path)))
        except (FileNotFoundError, NotADirectoryError):
            return []

    def glob(self, pattern: str) -> list[str]:
        """Box paths that match, sorted; `*` and `?` inside one component, symlinks followed."""
        found = [""]
        for part in PurePosixPath(pattern).parts[1:]:
            if any(ch in part for ch in "*?["):
                found = [
                    f"{base}/{name}"
                    for base in found
                    for name in self.listdir(base or "/")
                    if fnmatch.fnmatchcase(name, part)
                ]
            else:
                found = [f"{base}/{part}" for base in found if self.lexists(f"{base}/{part}")]
        return sorted(found)

    def disk_space(self, box_path: str) -> DiskSpace:
        """Space of the file system that holds `box_path` or its nearest existing parent."""
        real = self.path(box_path)
        while not real.exists():
            real = real.parent
        info = os.statvfs(real)
        return DiskSpace(info.f_blocks * info.f_frsize, info.f_bavail * info.f_frsize)

    def is_root(self) -> bool:
        """May we act as root on this box? The owner of a simulated box's folder may."""
        if os.geteuid() == 0:
            return True
        return self.kind is BoxKind.SIMULATED and self.root.stat().st_uid == os.geteuid()

    def require_root(self, what: str) -> None:
        """Raises NeedsRoot naming `what` when we may not act as root."""
        if not self.is_root():
            raise NeedsRoot(what)

    # ---- processes ---------------------------------------------------------------------------

    def which(self, tool: str) -> str | None:
        """Box path of a program of the box, or None."""
        if tool.startswith("/"):
            return tool if self._executable(tool) else None
        for folder in BOX_PATH:
            if self._executable(f"{folder}/{tool}"):
                return f"{folder}/{tool}"
        return None

    def _executable(self, box_path: str) -> bool:
        real = self.path(box_path)
        return real.is_file() and os.access(real, os.X_OK)

    def query(
        self,
        argv: Sequence[str],
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> Result:
        """Run a program **of the box** that changes nothing. It answers, or times out, never raises
        for a bad status.

        Raises:
            ToolMissing: the box has no such program, or is offline.
        """
        return self._run_box(argv, timeout, env, stdin)

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        on_line: Callable[[str], None] | None = None,
    ) -> Result:
        """Run a program **of the box** that changes it. As `query`, else.

        Args:
            on_line: called with every line of stdout and stderr as it comes (progress).
        """
        return self._run_box(argv, timeout, env, stdin, on_line)

    def query_here(
        self,
        argv: Sequence[str],
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> Result:
        """Run a program **of this machine** (git, pip) that changes nothing. Its arguments are real
        paths (`path()`). On a live box this machine is the box."""
        return start(tuple(argv), argv[0], timeout, clean_env(env), stdin, None)

    def run_here(
        self,
        argv: Sequence[str],
        *,
        timeout: float = DEFAULT_TIMEOUT_S,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
        on_line: Callable[[str], None] | None = None,
    ) -> Result:
        """Run a program **of this machine** that may change the box's files."""
        return start(tuple(argv), argv[0], timeout, clean_env(env), stdin, on_line)

    def pipe_here(
        self,
        argv: Sequence[str],
        data: bytes,
        *,
        timeout: float,
        env: Mapping[str, str] | None = None,
    ) -> bytes:
        """Feed bytes to a program of this machine that changes nothing, and return its bytes.

        Raises:
            ToolMissing: there is no such program.
            CommandFailed: it ended badly or ran out of time.
        """
        return pipe(argv, data, timeout, env)

    def spawn_here(
        self, argv: Sequence[str], *, env: Mapping[str, str], folder: str | None = None
    ) -> Child:
        """Start a service of this machine and leave it running. It has our output and, with `env`
        on top, our environment, without what a service manager told us.

        Raises:
            ToolMissing: there is no such program.
            CommandFailed: it could not be started.
        """
        return spawn(argv, service_env(env), folder)

    def become_here(self, argv: Sequence[str], *, env: Mapping[str, str]) -> None:
        """Go on as another program of this machine, in this process: number, output, environment
        (with `env` on top) and what a service manager told us stay. Does not return.

        Raises:
            ToolMissing: there is no such program.
            CommandFailed: it could not be started.
        """
        become(argv, env)

    def _run_box(
        self,
        argv: Sequence[str],
        timeout: float,
        env: Mapping[str, str] | None,
        stdin: str,
        on_line: Callable[[str], None] | None = None,
    ) -> Result:
        if self.kind is BoxKind.OFFLINE:
            raise ToolMissing(argv[0], "but the box is offline: only its files are here")
        program = self.which(argv[0])
        if program is None:
            raise ToolMissing(argv[0])
        extra = dict(env or {})
        if self.kind is BoxKind.SIMULATED:
            extra["ISHOWTTS_BOX_ROOT"] = str(self.root)
        return start(
            tuple(argv), str(self.path(program)), timeout, clean_env(extra), stdin, on_line
        )

    # ---- changing files ----------------------------------------------------------------------

    def write(
        self,
        box_path: str,
        data: bytes | str,
        *,
        mode: int = 0o644,
        owner: tuple[int, int] | None = None,
    ) -> None:
        """Replace a regular file in one atomic step; parents are made (0755) when missing.

        Args:
            owner: (uid, gid) to give the file; left as the kernel sets it when None.
        """
        raw = data.encode() if isinstance(data, str) else data
        real = self.path(box_path, follow_last=False)
        self.mkdir(str(PurePosixPath(box_path).parent))
        handle, temporary = tempfile.mkstemp(
            prefix=f".{real.name}.", suffix=".new", dir=real.parent
        )
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, mode)
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.chown(temporary, *owner)
            os.replace(temporary, real)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(temporary)
            raise

    def write_sysfs(self, box_path: str, value: str) -> None:
        """Write an attribute in place: sysfs files can be neither replaced nor created.

        Raises:
            OSError: as the kernel answers (EBUSY, EINVAL, EACCES …).
        """
        handle = os.open(self.path(box_path), os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(handle, value.encode())
        finally:
            os.close(handle)

    def mkdir(self, box_path: str, *, mode: int = 0o755) -> None:
        """Make a folder and its parents; an existing one is left as it is."""
        if box_path == "/" or self.is_dir(box_path):
            return
        self.mkdir(str(PurePosixPath(box_path).parent))
        real = self.path(box_path)
        with contextlib.suppress(FileExistsError):
            real.mkdir()
            real.chmod(mode)

    def symlink(self, target: str, box_path: str) -> None:
        """Make or replace a symlink atomically."""
        real = self.path(box_path, follow_last=False)
        self.mkdir(str(PurePosixPath(box_path).parent))
        temporary = real.with_name(f".{real.name}.{os.getpid()}.new")
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()
        temporary.symlink_to(target)
        temporary.replace(real)

    def remove(self, box_path: str) -> None:
        """Remove a file or symlink; one that is not there is no error."""
        with contextlib.suppress(FileNotFoundError):
            self.path(box_path, follow_last=False).unlink()

    def rmdir(self, box_path: str) -> bool:
        """Remove a folder if it is empty; says whether it is gone."""
        try:
            self.path(box_path, follow_last=False).rmdir()
        except FileNotFoundError:
            return True
        except OSError:
            return False
        return True

    def rmtree(self, box_path: str) -> None:
        """Remove a folder and all below it; one that is not there is no error."""
        real = self.path(box_path, follow_last=False)
        if real == self.root:
            raise OpsError("Refusing to remove the root of a box.")
        if os.path.lexists(real):
            shutil.rmtree(real)

    def chmod(self, box_path: str, mode: int) -> None:
        self.path(box_path).chmod(mode)

    def chown(self, box_path: str, uid: int, gid: int) -> None:
        real = self.path(box_path, follow_last=False)
        info = real.lstat()
        if (info.st_uid, info.st_gid) != (uid, gid):
            os.chown(real, uid, gid, follow_symlinks=False)

    def rename(self, old: str, new: str) -> None:
        """Move within one file system, replacing a file at `new`."""
        self.mkdir(str(PurePosixPath(new).parent))
        self.path(old, follow_last=False).replace(self.path(new, follow_last=False))

    @contextlib.contextmanager
    def lock(self, box_path: str, doing: str, *, automatic: bool = False) -> Iterator[None]:
        """Hold an exclusive lock file; the kernel lets go of it when we die.

        Args:
            automatic: a timer's work. A person's command waits for it to end, since whoever saves
                a setting and runs install must not be told that a timer noticed the setting first.

        Raises:
            BoxLocked: somebody holds it; the message says who and doing what.
        """
        self.mkdir(str(PurePosixPath(box_path).parent))
        with hold(self.path(box_path), doing, automatic=automatic):
            yield


class ReadOnlyHost(Host):
    """A box that is only looked at: what `--dry-run`, `doctor` and `status` are given."""

    def run(self, argv: Sequence[str], **_: object) -> Result:
        raise ReadOnlyViolation(f"`{' '.join(argv)}` would change the box during a read-only run.")

    def run_here(self, argv: Sequence[str], **_: object) -> Result:
        raise ReadOnlyViolation(f"`{' '.join(argv)}` would change the box during a read-only run.")

    def spawn_here(
        self, argv: Sequence[str], *, env: Mapping[str, str], folder: str | None = None
    ) -> Child:
        raise ReadOnlyViolation(f"`{' '.join(argv)}` would run during a read-only run.")

    def become_here(self, argv: Sequence[str], *, env: Mapping[str, str]) -> None:
        raise ReadOnlyViolation(f"`{' '.join(argv)}` would run during a read-only run.")

    def _refuse(self, *args: object, **_: object) -> None:
        raise ReadOnlyViolation(f"Changing {args[0]!r} during a read-only run.")

    write = write_sysfs = mkdir = symlink = remove = rmtree = chmod = chown = rename = _refuse
    rmdir = _refuse  # type: ignore[assignment]

    @contextlib.contextmanager
    def lock(self, box_path: str, doing: str, *, automatic: bool = False) -> Iterator[None]:
        self._refuse(box_path, doing)
        yield
