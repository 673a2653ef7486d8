"""How a process ended, in systemd's words, and whether that calls for a restart."""

from __future__ import annotations

import signal
from dataclasses import dataclass

from .unitfile import Unit

_STATUS_NAMES = {
    0: "SUCCESS",
    1: "FAILURE",
    2: "INVALIDARGUMENT",
    78: "CONFIG",
    200: "CHDIR",
    203: "EXEC",
    255: "EXCEPTION",
}
_CLEAN_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)
_DUMPING = (
    signal.SIGABRT,
    signal.SIGBUS,
    signal.SIGFPE,
    signal.SIGILL,
    signal.SIGQUIT,
    signal.SIGSEGV,
    signal.SIGSYS,
    signal.SIGTRAP,
)


@dataclass(frozen=True)
class Ending:
    """`code` is exited, killed or dumped; `status` the exit status or the signal's number."""

    code: str
    status: int

    @classmethod
    def of(cls, returncode: int) -> Ending:
        """From Popen's return code, negative for a signal."""
        if returncode >= 0:
            return cls("exited", returncode)
        return cls("dumped" if -returncode in _DUMPING else "killed", -returncode)

    @property
    def number(self) -> int:
        """systemd's ExecMainCode: 1 exited, 2 killed, 3 dumped."""
        return {"exited": 1, "killed": 2, "dumped": 3}[self.code]

    @property
    def words(self) -> str:
        if self.code == "exited":
            name = _STATUS_NAMES.get(self.status, "n/a")
        else:
            name = signal.Signals(self.status).name.removeprefix("SIG")
        return f"code={self.code}, status={self.status}/{name}"

    @property
    def result(self) -> str:
        """systemd's Result= for an ending nobody asked for."""
        if self.clean:
            return "success"
        return {"exited": "exit-code", "killed": "signal", "dumped": "core-dump"}[self.code]

    @property
    def clean(self) -> bool:
        if self.code == "exited":
            return self.status == 0
        return self.code == "killed" and self.status in _CLEAN_SIGNALS

    def listed(self, words: list[str]) -> bool:
        """Is it one of an ...ExitStatus= list: numbers, status names, signal names?"""
        if self.code == "exited":
            names = (str(self.status), _STATUS_NAMES.get(self.status, ""))
        else:
            names = (signal.Signals(self.status).name, "")
        return any(name in words for name in names if name)


def wants_restart(unit: Unit, result: str, ending: Ending | None) -> bool:
    """Restart= applied to a result; `ending` is None when nothing could be started."""
    if ending is not None:
        if ending.listed(unit.words("Service.RestartPreventExitStatus")):
            return False
        if ending.listed(unit.words("Service.RestartForceExitStatus")):
            return True
    policy = unit.get("Service.Restart", "no")
    abnormal = ("signal", "core-dump", "timeout", "watchdog")
    causes: dict[str, tuple[str, ...]] = {
        "no": (),
        "always": ("success", "exit-code", "protocol", "resources", *abnormal),
        "on-success": ("success",),
        "on-failure": ("exit-code", "protocol", "resources", *abnormal),
        "on-abnormal": abnormal,
        "on-abort": ("signal", "core-dump"),
        "on-watchdog": ("watchdog",),
    }
    return result in causes.get(policy, ())
