"""The page at `/` in a real browser: typed into, clicked, and listened to."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ishowtts_ops.host import Host
from ishowtts_ops.sim.tree import build_box
from tests.service.daemon.daemon_server import Server, serving
from tests.support.chromium import Page, browsing, program

BROWSER = program()
if BROWSER is None:
    pytest.skip("there is no Chromium on this machine", allow_module_level=True)

TEXT = "what was typed is spoken piece by piece!"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A simulated Orin, whose clocks and temperatures can be read."""
    root = tmp_path_factory.mktemp("orin")
    build_box(root, "agx-orin-64")
    assert Host.at(root).simulated
    return root


@pytest.fixture(scope="module")
def server(box: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    env = {"ISHOWTTS_TONE_FAULT": "text"}
    with serving(tmp_path_factory.mktemp("page"), root=box, env=env) as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def page(server: Server) -> Iterator[Page]:
    assert BROWSER is not None
    with browsing(BROWSER) as tab:
        tab.open(server.url)
        tab.eventually("Number(document.body?.dataset.looks) > 1")
        yield tab


def spoken(page: Page, text: str) -> str:
    page.value(f"document.querySelector('#text').value = {text!r}")
    page.click("#speak")
    result: str = page.eventually(
        "document.querySelector('#stop').disabled && document.querySelector('#result').textContent"
    )
    return result


def test_it_shows_the_voices_and_the_state(page: Page) -> None:
    page.eventually("document.querySelector('#voice').options.length == 2")
    assert page.value("document.querySelector('#voice').value") == "tone-a"
    assert page.value("document.querySelector('#state').className") == "ready"
    assert "tone with 2 voices" in page.value("document.querySelector('#state').textContent")


def test_what_is_typed_is_heard(page: Page, server: Server) -> None:
    page.value("document.querySelector('#voice').value = 'tone-b'")
    assert spoken(page, TEXT).startswith(f"{len(TEXT) * 0.05:.1f} s of speech")
    result = "document.querySelector('#result').dataset"
    assert int(page.value(f"{result}.frames")) == len(TEXT) * 1200
    assert float(page.value(f"{result}.peak")) == pytest.approx(0.3, abs=0.01)
    assert page.value(f"{result}.engine") == "tone"
    # The browser's own clock runs on while it plays to the end of what was scheduled.
    page.eventually("page.audio.state == 'running' && page.audio.currentTime > 0.2")
    assert page.value("page.until") > len(TEXT) * 0.05
    assert server.http.get("/v1/stats").json()["recent"][-1]["voice"] == "tone-b"


def test_it_plays_before_all_is_made_and_can_be_stopped(page: Page, server: Server) -> None:
    page.value(
        "document.querySelector('#text').value = 'the first piece comes fault:late fault:slow:600'"
    )
    page.click("#speak")
    page.eventually("page.until > 0.5 && page.audio.state == 'running'")
    assert page.value("document.querySelector('#stop').disabled") is False
    page.click("#stop")
    page.eventually("document.querySelector('#result').textContent == 'Stopped.'")
    # The engine is free again long before the 600 seconds are over.
    assert server.speak("next please").status_code == 200


def test_errors_are_shown_in_words(page: Page) -> None:
    assert "input" in spoken(page, "?!")
    assert page.value("document.querySelector('#result').className") == "bad"


@pytest.mark.parametrize("chart", ["rtf", "first", "queue", "clocks", "heat"])
def test_charts_are_drawn_from_live_figures(page: Page, chart: str) -> None:
    spoken(page, "hello")
    drawn = (
        f"(() => {{ const c = document.querySelector('#{chart}');"
        " const d = c.getContext('2d').getImageData(50, 14, c.width - 50, c.height - 14).data;"
        " let n = 0; for (let i = 0; i < d.length; i += 4)"
        "   if (d[i + 3] > 200 && Math.abs(d[i] - d[i + 2]) > 60) n++; return n; })()"
    )
    assert page.eventually(drawn) > 0
    words = page.value(f"document.querySelector('#{chart}').parentElement.innerText")
    assert "not known" not in words
    if chart == "clocks":
        assert "gpu" in words and "cpu" in words
    if chart == "heat":
        assert "tj" in words


def test_charts_go_on_when_the_daemon_was_started_again(page: Page) -> None:
    # It counts its requests from one again, while the page stays open for weeks.
    before = page.value("(() => { page.seen = 100000; return page.rtf.requests.length; })()")
    spoken(page, "hello")
    page.eventually(f"page.rtf.requests.length > {before} && page.seen < 1000")


def test_nothing_comes_from_elsewhere_and_nothing_complains(page: Page, server: Server) -> None:
    names = page.value("performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert names and all(name.startswith((server.url, "data:")) for name in names)
    known = "the server responded with a status of 400"  # the refused `?!`
    assert [words for words in page.complaints if known not in words] == []


def test_a_daemon_that_is_gone_is_said(page: Page, server: Server) -> None:
    server.process.kill()
    page.eventually("document.querySelector('#state').textContent.includes('does not answer')")


def test_a_page_before_a_locked_daemon_asks_for_the_key(tmp_path: Path) -> None:
    import hashlib

    key = "4a5b6c7d8e9f00112233445566778899"
    keys = [{"name": "me", "hash": "sha256:" + hashlib.sha256(key.encode()).hexdigest()}]
    daemon = {"api_keys": keys, "api_keys_for": "everyone"}
    assert BROWSER is not None
    with serving(tmp_path, daemon=daemon) as locked, browsing(BROWSER) as tab:
        locked.http.headers["X-Api-Key"] = key
        locked.wait_ready()
        tab.open(locked.url)
        tab.eventually("document.querySelector('#locked')?.hidden === false")
        tab.eventually("document.querySelector('#state').textContent.includes('wants an API key')")
        tab.value(
            f"(() => {{ const k = document.querySelector('#key'); k.value = '{key}';"
            " k.dispatchEvent(new Event('change')); })()"
        )
        tab.eventually("document.querySelector('#voice').options.length == 2")
        assert spoken(tab, "hello").startswith("0.3 s of speech")
        tab.eventually("document.querySelector('#state').className == 'ready'")


def test_a_voice_that_was_put_aside_is_shown_with_its_reason(tmp_path: Path) -> None:
    import json

    entry = {"id": "anna", "text": "words", "key": "0" * 64 + "-" + "0" * 16, "updated_at": "2026"}
    (tmp_path / "state/voices").mkdir(parents=True)
    (tmp_path / "state/voices/voices.json").write_text(json.dumps({"voices": [entry]}))
    assert BROWSER is not None
    daemon = {"state_dir": str(tmp_path / "state")}
    with serving(tmp_path, daemon=daemon) as server, browsing(BROWSER) as tab:
        server.wait_ready()
        tab.open(server.url)
        tab.eventually("document.querySelector('#aside')?.hidden === false")
        words = tab.value("document.querySelector('#aside').textContent")
        assert words == "anna cannot be used: Its recording is gone."
        assert spoken(tab, "hello")
        tab.eventually("document.querySelectorAll('#recent tr').length == 1")
        assert "tone-a" in tab.value("document.querySelector('#recent').innerText")
