"""A box that boots: real systemd in a container which is, at its real paths, a simulated Jetson.

The root file system is a private copy of `rootfs.base_rootfs()` with the board's files written
into it, and the board's /sys folders are mounted over the kernel's. So nothing in the box needs
`--root`: units, tools and the program under test see what they would see on a Jetson. The network
and the clock are this machine's, which is why every daemon needs a port of its own (`free_port`).
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from ishowtts_ops.sim.tree import HARDWARE_FOLDERS, build_box, cold_boot
from tests.support import cgroup, program, rootfs, tree
from tests.support.running import Done, Running, children

SIM_MOUNTS = tuple(f"/{folder}" for folder in HARDWARE_FOLDERS)
FOLDER_PREFIX = "ishowtts-box-"
BOX_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "USER": "root",
    "LANG": "C.UTF-8",
    "SYSTEMD_PAGER": "",
    "SYSTEMD_COLORS": "0",
}
_START = (
    'while [ "$1" != -- ]; do echo $$ >"$1/cgroup.procs" || exit 71; shift; done; shift;'
    ' exec setpriv --pdeathsig TERM "$@"'
)
"""Enters the box's control groups, then runs the rest. systemd-nspawn is told when the test process
dies and shuts the box down; if it were killed instead, the box would run on without it."""


class Box:
    """One container. Made by `new_box`; use it as long as that context is open."""

    def __init__(self, folder: Path, root: Path, binds: Sequence[program.Bind]) -> None:
        self.folder = folder
        self.root = root
        self.boots = 0
        self._binds = binds
        self._groups: list[Path] = []
        self._nspawn: subprocess.Popen[bytes] | None = None
        self._spawned: list[Running] = []
        self._leader: int | None = None

    # ---- power -------------------------------------------------------------------------------

    def boot(self, timeout: float = 90) -> None:
        """Switch on, with clocks and sensors as after a cold start, and wait until systemd has
        nothing left to start."""
        assert self._nspawn is None, "the box is on"
        cold_boot(self.root)
        self.boots += 1
        self._groups = cgroup.make(self.folder.name)
        argv = ["sh", "-c", _START, "sh", *map(str, self._groups), "--", *self._nspawn_argv()]
        with self.console.open("wb") as console:
            self._nspawn = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        eventually(self._find_leader, "systemd runs in the container", timeout, self._console_tail)
        eventually(self._is_up, "the box is up", timeout, self._console_tail)

    def _nspawn_argv(self) -> list[str]:
        argv = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot"]
        machine = re.sub(r"[^a-z0-9]+", "-", self.folder.name).strip("-")
        argv += ["--directory", str(self.root), f"--machine={machine}"]
        argv += ["--hostname=jetson", "--timezone=off", "--link-journal=no"]
        argv += [f"--bind={self.folder}{path}:{path}" for path in SIM_MOUNTS]
        argv += [f"--bind-ro={bind.here}:{bind.box_path}" for bind in self._binds]
        return argv

    @property
    def console(self) -> Path:
        """What this boot wrote to the console."""
        return self.folder / f"console-{self.boots}.log"

    def _console_tail(self) -> str:
        text = self.console.read_text(encoding="utf-8", errors="replace")
        return "\n".join(re.sub(r"\x1b\[[0-9;]*m", "", text).splitlines()[-30:])

    def _find_leader(self) -> bool:
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, f"systemd-nspawn ended:\n{self._console_tail()}"
        for pid in children(self._nspawn.pid):
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{pid}/exe").endswith("/systemd"):
                    self._leader = pid
        return self._leader is not None

    def _is_up(self) -> bool:
        state = self.exec("systemctl", "is-system-running", "--wait", check=False, timeout=120)
        return state.stdout.strip() in ("running", "degraded")

    @property
    def on(self) -> bool:
        return self._nspawn is not None and self._nspawn.poll() is None

    def reboot(self) -> None:
        """`systemctl reboot` in the box, then the next boot: files stay, clocks do not."""
        self._leave("reboot")
        self.boot()

    def power_off(self) -> None:
        """`systemctl poweroff` in the box, waited for."""
        self._leave("poweroff")

    def _leave(self, verb: str, timeout: float = 60) -> None:
        self.exec("systemctl", verb, check=False)
        eventually(self._has_ended, f"{verb} is through", timeout, self._console_tail)
        self.pull_plug()

    def _has_ended(self) -> bool:
        for running in self._spawned:
            running.wake()
        return not self.on

    def pull_plug(self) -> None:
        """End every process of the box at once, as a power cut does. Harmless when it is off."""
        if self._nspawn is None:
            return
        for pid in (self._leader, self._nspawn.pid):
            if pid is not None and self._nspawn.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self._nspawn.wait(30)
        self._nspawn = self._leader = None
        cgroup.remove(self._groups)

    # ---- processes ---------------------------------------------------------------------------

    def exec(
        self,
        *argv: str,
        check: bool = True,
        timeout: float = 60,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> Done:
        """Run a program in the box as a login of root (or `user`) would.

        Args:
            check: fail the test when it ends with anything but 0.
        """
        running = self.spawn(*argv, user=user, env=env, stdin=stdin)
        done = running.wait(timeout)
        if check:
            assert done.returncode == 0, (
                f"{' '.join(argv)} ended with {done.returncode}\n{done.stdout}{done.stderr}"
            )
        return done

    def spawn(
        self,
        *argv: str,
        user: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: str = "",
    ) -> Running:
        """As `exec`, without waiting for its end."""
        assert self.on and self._leader is not None, "the box is off"
        words = ["nsenter", f"--target={self._leader}", "--mount", "--uts", "--ipc", "--net"]
        words += ["--pid", "--cgroup", "--root", "--wd", "--"]
        if user is not None:
            words += ["runuser", f"--user={user}", "--"]
        values = [f"{name}={value}" for name, value in {**BOX_ENV, **(env or {})}.items()]
        running = Running([*words, "env", "--ignore-environment", *values, *argv], stdin)
        self._spawned = [other for other in self._spawned if other.poll() is None]
        self._spawned.append(running)
        return running

    def ops(
        self, *words: str, check: bool = True, timeout: float = 120, user: str | None = None
    ) -> Done:
        """Run the program under test: `box.ops("install", "--yes")`."""
        return self.exec(program.PROGRAM, *words, check=check, timeout=timeout, user=user)

    # ---- systemd -----------------------------------------------------------------------------

    def systemctl(self, *words: str, check: bool = True, timeout: float = 120) -> Done:
        return self.exec("systemctl", *words, check=check, timeout=timeout)

    def show(self, unit: str, *properties: str) -> dict[str, str]:
        """Properties of a unit, by name; all of them when none is named."""
        chosen = [f"--property={','.join(properties)}"] if properties else []
        text = self.systemctl("show", unit, *chosen).stdout
        return dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)

    def state(self, unit: str) -> str:
        """Such as `active/running`, `inactive/dead`, `failed/failed`."""
        found = self.show(unit, "ActiveState", "SubState")
        return f"{found['ActiveState']}/{found['SubState']}"

    def wait_for(self, unit: str, state: str = "active", timeout: float = 60) -> None:
        """Wait until a unit's ActiveState is `state`, or `active/exited` with its SubState."""
        eventually(
            lambda: (self.state(unit) + "/").startswith(state + "/"),
            f"{unit} is {state}",
            timeout,
            lambda: self.why(unit),
        )

    def why(self, unit: str) -> str:
        """What a person would look at first when a unit is not as it should be."""
        status = self.systemctl("status", "--no-pager", "--lines=0", unit, check=False).stdout
        return f"{status}\n" + "\n".join(self.journal(unit).splitlines()[-40:])

    def journal(
        self, unit: str | None = None, *, boot: str | None = None, output: str = "cat"
    ) -> str:
        """Journal text, oldest first.

        Args:
            boot: "0" is this boot, "-1" the one before; None is all of them.
            output: a format of journalctl, such as `short-monotonic` or `json`.
        """
        words = ["journalctl", "--no-pager", "--quiet", f"--output={output}"]
        words += [f"--unit={unit}"] if unit else []
        words += [f"--boot={boot}"] if boot else []
        return self.exec(*words).stdout

    # ---- files -------------------------------------------------------------------------------

    def path(self, box_path: str) -> Path:
        """A box path as this machine sees it. /run, /tmp, /dev and /proc of a box are in its own
        memory and cannot be reached from here: use `exec`."""
        first = box_path.split("/")[1]
        assert box_path.startswith("/") and first not in ("run", "tmp", "dev", "proc"), box_path
        return self.root / box_path.lstrip("/")

    def read(self, box_path: str) -> str:
        return self.path(box_path).read_text(encoding="utf-8", errors="replace")

    def write(self, box_path: str, text: str, mode: int = 0o644) -> None:
        path = self.path(box_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        path.chmod(mode)

    def tree_snapshot(self, *paths: str) -> dict[str, tree.Entry]:
        """All files of the box (or those below `paths`) with modes, owners and digests; the values
        of the simulated clocks are among them. See `tree.VOLATILE` for what is left out."""
        return tree.snapshot(self.root, paths or ("/",))


@contextlib.contextmanager
def new_box(board: str) -> Iterator[Box]:
    """A box that is off, and gone without a trace at the end.

    Args:
        board: a name of `sim`'s boards.
    """
    _sweep()
    with contextlib.ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix=f"{FOLDER_PREFIX}{os.getpid()}-"))
        stack.callback(shutil.rmtree, folder)
        root = folder / "root"
        root.mkdir()
        _copy(rootfs.base_rootfs(), root, folder / "overlay")
        stack.callback(_unmount, folder)
        binds = program.install(root)
        build_box(root, board, folder=False)
        # systemd-nspawn mounts the kernel's /sys over the root's before it looks for what to mount
        # there, so the board's needs a second way in that is not below the root.
        (folder / "sys").mkdir()
        subprocess.run(["mount", "--bind", str(root / "sys"), str(folder / "sys")], check=True)
        box = Box(folder, root, binds)
        stack.callback(box.pull_plug)
        yield box


def eventually(
    true: Callable[[], bool],
    what: str,
    timeout: float = 60,
    evidence: Callable[[], str] = lambda: "",
    pause: float = 0.05,
) -> None:
    """Wait until `true()` is; fail the test with `what` and the evidence when it takes too long.

    Args:
        pause: seconds between two looks. A look that starts a program keeps a processor from what
            is waited for, and is not to be taken all the time.
    """
    end = time.monotonic() + timeout
    while not true():
        if time.monotonic() > end:
            raise AssertionError(f"after {timeout} s it is not so that {what}\n{evidence()}")
        time.sleep(pause)


def leftovers() -> list[str]:
    """Mounts, processes and folders that boxes of this process have left on this machine."""
    mark = f"{FOLDER_PREFIX}{os.getpid()}-"
    found = [f"mount {point}" for point in _mounts() if mark in point]
    for pid in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (pid / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if mark in words:
                found.append(f"process {pid.name} {words}")
    found += [f"folder {path}" for path in Path(tempfile.gettempdir()).glob(f"{mark}*")]
    found += [f"group {path}" for path in Path("/sys/fs/cgroup").rglob(f"{mark}*")]
    return found


def _copy(base: Path, root: Path, scratch: Path) -> None:
    """A private copy of the base: an overlay where the kernel allows one here, else a real copy."""
    upper, work = scratch / "upper", scratch / "work"
    upper.mkdir(parents=True)
    work.mkdir()
    options = f"lowerdir={base},upperdir={upper},workdir={work}"
    argv = ["mount", "-t", "overlay", "-o", options, "ishowtts-box", str(root)]
    if subprocess.run(argv, stderr=subprocess.DEVNULL).returncode != 0:
        subprocess.run(["cp", "-a", "--reflink=auto", f"{base}/.", str(root)], check=True)


def _sweep() -> None:
    """Remove what test processes that were killed could not."""

    def orphaned(path: Path) -> bool:
        owner = path.name.removeprefix(FOLDER_PREFIX).split("-")[0]
        return owner.isdigit() and not Path(f"/proc/{owner}").exists()

    for folder in filter(orphaned, Path(tempfile.gettempdir()).glob(f"{FOLDER_PREFIX}*-*")):
        _unmount(folder)
        shutil.rmtree(folder, ignore_errors=True)
    cgroup.remove([*filter(orphaned, cgroup.find(f"{FOLDER_PREFIX}*-*"))])


def _mounts() -> Iterable[str]:
    for line in Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines():
        yield line.split()[1]


def _unmount(folder: Path) -> None:
    for point in [p for p in _mounts() if p.startswith(f"{folder}/")][::-1]:
        if subprocess.run(["umount", point], stderr=subprocess.DEVNULL).returncode != 0:
            subprocess.run(["umount", "--lazy", point], check=True)
