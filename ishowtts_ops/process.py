"""Starting processes, and nothing else. Only `host.py` uses it: everybody else asks a `Host`.

A process gets no terminal, a small environment, a time limit, and a group of its own, so that its
children end with it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from ishowtts_ops.errors import CommandFailed, ToolMissing

BOX_PATH = ("/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin")
"""Where programs of a box are looked for, in order."""


@dataclass(frozen=True)
class Result:
    """What a finished process left behind. `rc` is None when it ran out of time."""

    argv: tuple[str, ...]
    rc: int | None
    stdout: str
    stderr: str

    @property
    def ok(self) -> bool:
        return self.rc == 0

    @property
    def timed_out(self) -> bool:
        return self.rc is None

    @property
    def output(self) -> str:
        return self.stdout + self.stderr

    def check(self, hint: str = "") -> Result:
        """Return self, or raise CommandFailed when the process did not end with 0."""
        if self.ok:
            return self
        status = "ran out of time" if self.rc is None else f"ended with status {self.rc}"
        raise CommandFailed(self.argv, status, self.output, hint)


def clean_env(extra: Mapping[str, str] | None) -> dict[str, str]:
    """A small, predictable environment: parsers must not meet a translated tool, and a service
    manager's socket must not leak into children."""
    keep = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "SSH_AUTH_SOCK", "VIRTUAL_ENV")
    kept = {name: os.environ[name] for name in keep if name in os.environ}
    passed = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "HF_", "ISHOWTTS_", "GIT_", "SSL_", "LD_LIBRARY_PATH"))
        or name.lower().endswith("_proxy")
    }
    default_path = ":".join(BOX_PATH)
    return {"PATH": default_path, **kept, **passed, "LC_ALL": "C.UTF-8", **(extra or {})}


def service_env(extra: Mapping[str, str]) -> dict[str, str]:
    """Our whole environment for a service that we run, without what a service manager said to us:
    it would take our readiness, our watchdog and our sockets for its own."""
    ours = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")
    kept = {k: v for k, v in os.environ.items() if k not in ours and not k.startswith("LISTEN_")}
    return {**kept, **extra}


class Child:
    """A process that runs on beside us, in a session of its own, with our output as its output.

    Attributes:
        pid: also the number of its process group and session.
    """

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self.pid = process.pid

    def wait_for_end(self) -> None:
        """Return once it has ended. It is not reaped yet, so that nobody else can be given its
        number: what is left of its group can still be signalled safely."""
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)

    def signal(self, number: int) -> None:
        """Signal the process alone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def signal_group(self, number: int) -> None:
        """Signal the process and those of its children that stayed in its group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def reap(self) -> int:
        """Wait for its end and take note of it. Call once nobody signals it any more.

        Returns:
            its exit code, or the negative number of the signal that ended it.
        """
        return self._process.wait()


def spawn(argv: Sequence[str], env: Mapping[str, str], folder: str | None) -> Child:
    """Start a program that runs on.

    Raises:
        ToolMissing: there is no such program.
        CommandFailed: it could not be started.
    """
    try:
        process = subprocess.Popen(
            list(argv),
            stdin=subprocess.DEVNULL,
            env=dict(env),
            cwd=folder,
            start_new_session=True,
        )
    except FileNotFoundError:
        raise ToolMissing(argv[0]) from None
    except OSError as error:
        raise CommandFailed(argv, f"could not be started ({error.strerror})", "") from None
    return Child(process)


def become(argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
    """Turn this process into another program, with `env` on top of its environment.

    Raises:
        ToolMissing: there is no such program.
        CommandFailed: it could not be started.
    """
    try:
        os.execve(argv[0], list(argv), {**os.environ, **env})
    except FileNotFoundError:
        raise ToolMissing(argv[0]) from None
    except OSError as error:
        raise CommandFailed(argv, f"could not be started ({error.strerror})", "") from None


def start(
    argv: tuple[str, ...],
    executable: str,
    timeout: float,
    env: Mapping[str, str],
    stdin: str,
    on_line: Callable[[str], None] | None,
) -> Result:
    """Start, feed, collect. The process gets a group of its own, so that a time-out ends its
    children as well."""
    try:
        process = subprocess.Popen(
            [executable, *argv[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            text=True,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,
        )
    except FileNotFoundError:
        raise ToolMissing(argv[0]) from None
    except PermissionError as error:
        raise CommandFailed(argv, f"could not be started ({error.strerror})", "") from None
    try:
        if on_line is None:
            out, err = process.communicate(stdin, timeout=timeout)
        else:
            out, err = _communicate_lines(process, stdin, timeout, on_line)
    except subprocess.TimeoutExpired:
        _kill_group(process)
        out, err = process.communicate()
        return Result(argv, None, out or "", err or "")
    except BaseException:
        _kill_group(process)
        raise
    return Result(argv, process.returncode, out, err)


def _communicate_lines(
    process: subprocess.Popen[str], stdin: str, timeout: float, on_line: Callable[[str], None]
) -> tuple[str, str]:
    collected: tuple[list[str], list[str]] = ([], [])
    lock = threading.Lock()

    def pump(stream: Iterator[str], lines: list[str]) -> None:
        for line in stream:
            lines.append(line)
            with lock:
                on_line(line.rstrip("\n"))

    assert process.stdin and process.stdout and process.stderr
    threads = [
        threading.Thread(target=pump, args=(stream, lines), daemon=True)
        for stream, lines in zip((process.stdout, process.stderr), collected, strict=True)
    ]
    for thread in threads:
        thread.start()
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(stdin)
        process.stdin.close()
    process.wait(timeout=timeout)
    for thread in threads:
        thread.join()
    return "".join(collected[0]), "".join(collected[1])


def _kill_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def pipe(
    argv: Sequence[str], data: bytes, timeout: float, env: Mapping[str, str] | None = None
) -> bytes:
    """Feed bytes to a program and return the bytes it prints.

    Raises:
        ToolMissing: there is no such program.
        CommandFailed: it ended badly or ran out of time.
    """
    try:
        done = subprocess.run(
            list(argv),
            input=data,
            capture_output=True,
            timeout=timeout,
            env=clean_env(env),
            check=False,
        )
    except FileNotFoundError:
        raise ToolMissing(argv[0]) from None
    except subprocess.TimeoutExpired:
        raise CommandFailed(argv, "ran out of time", "") from None
    if done.returncode != 0:
        status = f"ended with status {done.returncode}"
        raise CommandFailed(argv, status, done.stderr.decode(errors="replace"))
    return done.stdout
