"""A daemon whose wall clock is set by days while it works: nothing it decides may change."""

from __future__ import annotations

import email.utils
import shutil
import subprocess
import time
from pathlib import Path

import pytest

import ishowtts_ops.daemon
from tests.service.daemon.daemon_server import NotifySocket, Server, eventually, serving
from tests.service.daemon.test_daemon_life import in_background

DAY = 86_400
PERIOD_S = 1.5
SOURCE = Path(__file__).with_name("wall_clock.c")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: `apt-get install gcc libc6-dev` brings one")
    made = tmp_path_factory.mktemp("clock") / "wall_clock.so"
    subprocess.run(
        [compiler, "-shared", "-fPIC", "-O1", "-o", made, SOURCE, "-ldl"], check=True, timeout=60
    )
    return made


def date_of(server: Server) -> float:
    """The daemon's own idea of now, from its answers' header."""
    header = server.http.get("/livez").headers["date"]
    return email.utils.parsedate_to_datetime(header).timestamp()


def test_deadlines_and_the_watchdog_do_not_follow_the_wall_clock(
    tmp_path: Path, library: Path
) -> None:
    clock = tmp_path / "clock"
    clock.write_text("0")
    manager = NotifySocket()
    env = {
        "ISHOWTTS_TONE_FAULT": "text",
        "LD_PRELOAD": str(library),
        "WALL_CLOCK_FILE": str(clock),
        "NOTIFY_SOCKET": manager.address,
        "WATCHDOG_USEC": str(int(PERIOD_S * 1e6)),
    }
    with serving(tmp_path, env=env) as server:
        server.wait_ready()
        assert abs(date_of(server) - time.time()) < 60

        def set_by(days: int) -> None:
            clock.write_text(str(days * DAY))
            eventually(lambda: abs(date_of(server) - time.time() - days * DAY) < 60)

        for days in (1, -2):
            set_by(0)
            running = in_background(lambda: server.speak("fault:slow:1.5"))
            eventually(lambda: server.ready()["queue"]["busy"])
            patient = in_background(lambda: server.speak("I wait a little", deadline_ms=30_000))
            eventually(lambda: server.ready()["queue"]["depth"] == 1)
            set_by(days)
            hasty = in_background(lambda: server.speak("I do not", deadline_ms=200))
            assert hasty().status_code == 504, "a deadline passes, whatever the date"
            assert running().status_code == 200
            assert patient().status_code == 200, "a day later is not too late"
            story = server.ready()
            assert 0 <= story["uptime_seconds"] < 600
            assert story["progress_age_seconds"] < 60
            # The idle engine's canaries feed the watchdog as before.
            since = time.monotonic()
            eventually(
                lambda since=since: (
                    len([at for at in manager.times("WATCHDOG=1") if at > since]) > 2
                )
            )
            assert server.ready()["status"] == "ready"
        fed = manager.times("WATCHDOG=1")
        assert fed and "the engine hangs" not in server.log
        assert server.stop() == 0
    manager.close()


@pytest.mark.parametrize("word", ["time.time()", "datetime.now", "time.localtime", "utcnow"])
def test_the_wall_clock_is_read_for_people_only(word: str) -> None:
    """The page's `at` of a request, and when a voice was added: shown, never reckoned with."""
    folder = Path(ishowtts_ops.daemon.__file__).parent
    users = {path.name for path in folder.glob("*.py") if word in path.read_text()}
    assert users <= {"accounts.py", "voice_store.py", "voice_table.py"}


def test_the_library_moves_nothing_but_the_wall_clock(library: Path, tmp_path: Path) -> None:
    code = "import time; print(time.time(), time.monotonic(), time.clock_gettime(0))"

    def read(days: int) -> list[float]:
        (tmp_path / "clock").write_text(str(days * DAY))
        env = {"LD_PRELOAD": str(library), "WALL_CLOCK_FILE": str(tmp_path / "clock")}
        shown = subprocess.run(
            ["python3", "-c", code],
            env={**env, "PATH": "/usr/bin:/bin:/usr/local/bin"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        return [float(word) for word in shown.split()]

    now, later = read(0), read(3)
    assert later[0] - now[0] == pytest.approx(3 * DAY, abs=60)
    assert later[2] - now[2] == pytest.approx(3 * DAY, abs=60)
    assert 0 <= later[1] - now[1] < 60
