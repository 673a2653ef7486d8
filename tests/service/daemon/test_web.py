"""The page's files, and the figures it draws, without a browser."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops.daemon.routes_state import look
from ishowtts_ops.host import Host
from ishowtts_ops.sim.tree import build_box
from tests.service.daemon.daemon_server import Server, serving


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("web")) as running:
        yield running.wait_ready()


def test_the_page_and_its_files_come_with_a_strict_policy(server: Server) -> None:
    page = server.http.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["content-security-policy"]
    linked = re.findall(r'(?:src|href)="(/[^"]+)"', page.text)
    assert sorted(linked) == ["/web/page.css", "/web/page.js"]
    for path in linked:
        answer = server.http.get(path)
        assert answer.status_code == 200
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.content


def test_nothing_on_the_page_leads_elsewhere(server: Server) -> None:
    for path in ("/", "/web/page.js", "/web/page.css"):
        text = server.http.get(path).text
        assert "http:" not in text and "https:" not in text and "@import" not in text


@pytest.mark.parametrize("path", ["/web/", "/web/../http.py", "/web/index.html", "/web/page.py"])
def test_no_other_file_is_served(server: Server, path: str) -> None:
    assert server.http.get(path).status_code == 404


def test_stats_remember_recent_requests(server: Server) -> None:
    before = server.http.get("/v1/stats").json()
    assert (before["status"], before["ready"]) == ("ready", True)
    server.speak("one")
    server.speak("")
    server.speak("two", voice="tone-b")
    recent = server.http.get("/v1/stats").json()["recent"][len(before["recent"]) :]
    assert [row["voice"] for row in recent] == ["tone-a", "tone-b"]
    assert recent[1]["number"] == recent[0]["number"] + 1
    assert recent[0]["audio_seconds"] == pytest.approx(0.15)
    assert 0 < recent[0]["first_audio_seconds"] < 30
    assert recent[0]["rtf"] >= 0


@pytest.mark.parametrize("board", ["agx-orin-64", "orin-nano-8"])
def test_the_box_is_read_from_sysfs(tmp_path: Path, board: str) -> None:
    build_box(tmp_path, board)
    found = look(Host.at(tmp_path))
    assert set(found["clocks_mhz"]) == set(found["limits_mhz"]) == {"cpu", "gpu"}
    for name, rate in found["clocks_mhz"].items():
        assert 50 < rate <= found["limits_mhz"][name] < 3000
    assert 20 < found["temperatures_c"]["tj"] < 100
    assert all(-100 < celsius < 120 for celsius in found["temperatures_c"].values())
    assert found["throttling"] == []


def test_heat_that_holds_a_clock_down_is_named(tmp_path: Path) -> None:
    build_box(tmp_path, "agx-orin-64")
    host = Host.at(tmp_path)
    for path in host.glob("/sys/class/thermal/cooling_device*"):
        if "gpu-throttle" in host.read_text(f"{path}/type"):
            host.path(f"{path}/cur_state").write_text("1")
    assert look(host)["throttling"] == ["gpu-throttle-alert"]


def test_a_machine_that_says_nothing_is_shown_empty(tmp_path: Path) -> None:
    (tmp_path / "sys/class/thermal/thermal_zone0/type").mkdir(parents=True)
    empty = {"clocks_mhz": {}, "limits_mhz": {}, "temperatures_c": {}, "throttling": []}
    assert look(Host.at(tmp_path)) == empty
