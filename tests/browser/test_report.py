"""The HTML report in a real headless browser: it draws, complains about nothing, asks nobody."""

from __future__ import annotations

import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from ishowtts_ops.measure import report
from ishowtts_ops.measure.history import Baseline
from ishowtts_ops.measure.run import Run
from ishowtts_ops.measure.timeline import timelines
from tests.unit.measure.made import make_run, moment, noisy, print_of

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium (package chromium)")

EVIL = '<script>document.title="taken"</script><img src="/stolen">'
"""A workload's name as somebody hostile would import it."""


class Listening(SimpleHTTPRequestHandler):
    """Serves the page and keeps what else is asked for."""

    def do_GET(self) -> None:
        assert isinstance(self.server, Site)
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


class Site(ThreadingHTTPServer):
    asked: list[str]


def story() -> tuple[list[Run], list[Baseline]]:
    """Eleven runs: the lock is lost, comes back, the series changes."""
    runs = []
    for day in range(11):
        lost = day in (4, 5)
        found = print_of(
            moment(loose=("GPU",)) if lost else moment(), series="s2" if day > 7 else "s1"
        )
        runs.append(
            make_run(
                noisy(0.352 if lost else 0.15 if day > 7 else 0.169, seed=day),
                started=f"2026-03-{day + 1:02d}T04:30:00Z",
                id=f"run-{day}",
                found=found,
                marks=("clocks were not locked: GPU",) if lost else (),
                workload=EVIL,
            )
        )
    baselines = [Baseline("run-0", "2026-03-01T05:00:00Z", "set by hand", runs[0].place)]
    return runs, baselines


@pytest.fixture
def page(tmp_path: Path) -> Iterator[tuple[Site, str]]:
    runs, baselines = story()
    text = report.render("Speech speed", timelines(runs, baselines), runs, runs[0], "today")
    (tmp_path / "report.html").write_text(text, encoding="utf-8")

    def handler(*given: object) -> Listening:
        return Listening(*given, directory=str(tmp_path))  # type: ignore[arg-type]

    site = Site(("127.0.0.1", 0), handler)
    site.asked = []
    threading.Thread(target=site.serve_forever, daemon=True).start()
    yield site, f"http://127.0.0.1:{site.server_port}/report.html"
    site.shutdown()
    site.server_close()


def browse(tmp_path: Path, *words: str) -> subprocess.CompletedProcess[str]:
    assert BROWSER is not None
    return subprocess.run(
        [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
         f"--user-data-dir={tmp_path}/profile", "--enable-logging=stderr", *words],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip


def test_it_shows_every_run_and_every_change(page: tuple[Site, str], tmp_path: Path) -> None:
    done = browse(tmp_path, "--dump-dom", page[1])
    dom = done.stdout
    for size in ("wide", "narrow"):
        (chart,) = re.findall(rf'<div class="{size}">(.*?)</div>', dom, re.DOTALL)
        assert chart.count('class="run"') == 11
        assert len(re.findall(r'<g class="event mode"', chart)) == 2, "lost, and back"
        assert len(re.findall(r'<g class="event patch"', chart)) == 1
        assert len(re.findall(r'<g class="event baseline"', chart)) == 1
        assert len(re.findall(r'<line class="baseline level"', chart)) == 1
    assert "clocks locked: yes → no: GPU" in dom
    assert "series: s1 → s2" in dom
    assert "Against the baseline run-0: This run is" in dom and "faster" in dom
    assert dom.count("clocks were not locked: GPU") == 2
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert complaints == []


def test_it_asks_nobody_and_runs_nothing(page: tuple[Site, str], tmp_path: Path) -> None:
    site, address = page
    dom = browse(tmp_path, "--dump-dom", address).stdout
    assert [path for path in site.asked if path != "/favicon.ico"] == ["/report.html"]
    assert "<title>Speech speed</title>" in dom
    assert "<script" not in dom and "<img" not in dom
    assert "&lt;script&gt;" in dom


def test_words_and_numbers_stay_whole_on_a_phone(page: tuple[Site, str], tmp_path: Path) -> None:
    """No cell of the figures is two lines high where one word stands in it: the table scrolls
    instead. Measured by the browser itself."""
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    probe = """<script>addEventListener("load", () => {
      const high = [...document.querySelectorAll("th")].filter(c => /^\\S+$/.test(c.textContent));
      const line = parseFloat(getComputedStyle(document.body).lineHeight);
      document.title = high.length + " " + high.filter(c => c.clientHeight > 1.6 * line).length;
    })</script>"""
    open_to_scripts = re.sub(r"<meta http-equiv.*?>", "", text).replace(
        "</body>", f"{probe}</body>"
    )
    (tmp_path / "probed.html").write_text(open_to_scripts, encoding="utf-8")
    address = page[1].replace("report.html", "probed.html")
    dom = browse(tmp_path, "--dump-dom", "--window-size=390,1600", address).stdout
    found = re.search(r"<title>(\d+) (\d+)</title>", dom)
    assert found is not None, dom[:400]
    assert int(found[1]) > 5 and int(found[2]) == 0, found[0]


@pytest.mark.parametrize(("width", "shown"), [(390, "narrow"), (1280, "wide")])
def test_the_chart_fits_its_screen(
    page: tuple[Site, str], tmp_path: Path, width: int, shown: str
) -> None:
    """One of the two charts is to be seen, whole, with letters of a size that can be read. A frame
    is as narrow as a telephone; the browser's own window is not."""
    probe = """<script>addEventListener("load", () => {
      const inside = document.querySelector("iframe").contentDocument;
      const seen = [...inside.querySelectorAll("svg")].filter(s => s.getClientRects().length);
      const box = seen[0].getBoundingClientRect();
      const letters = seen[0].querySelector("text").getBoundingClientRect();
      document.title = [seen.length, seen[0].parentElement.className, Math.round(box.left),
        Math.round(box.right), Math.round(letters.height)].join(" ");
    })</script>"""
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    (tmp_path / "open.html").write_text(re.sub(r"<meta http-equiv.*?>", "", text), encoding="utf-8")
    (tmp_path / "frame.html").write_text(
        f'<body><iframe src="open.html" style="width:{width}px;height:900px;border:0"></iframe>'
        f"{probe}",
        encoding="utf-8",
    )
    address = page[1].replace("report.html", "frame.html")
    dom = browse(tmp_path, "--dump-dom", "--window-size=1500,1000", address).stdout
    found = re.search(r"<title>(\d+) (\w+) (\d+) (\d+) (\d+)</title>", dom)
    assert found is not None, dom[:400]
    count, name, left, right, letters = found.groups()
    assert (int(count), name) == (1, shown)
    assert 0 <= int(left) < int(right) <= width
    assert int(letters) >= 10


@pytest.mark.parametrize("width", [390, 1280])
def test_it_is_drawn(page: tuple[Site, str], tmp_path: Path, width: int) -> None:
    """On a phone and on a desk: the chart's colours are on the picture."""
    image = pytest.importorskip("matplotlib.image")
    target = tmp_path / "shot.png"
    browse(tmp_path, f"--screenshot={target}", f"--window-size={width},1600", page[1])
    pixels = np.asarray(image.imread(target))[..., :3]
    assert pixels.shape[1] == width
    assert pixels.std() > 0.05, "an empty page has one colour"
    red = (pixels[..., 0] > 0.7) & (pixels[..., 1] < 0.3) & (pixels[..., 2] < 0.3)
    assert red.sum() > 20, "marked runs are red"


def test_an_empty_history_is_a_sentence(tmp_path: Path) -> None:
    file = tmp_path / "empty.html"
    file.write_text(report.render("Nothing", [], [], None, "today"), encoding="utf-8")
    assert "There are no runs yet" in browse(tmp_path, "--dump-dom", file.as_uri()).stdout
