"""A package index on this machine, served over HTTP as pip asks it (PEP 503)."""

from __future__ import annotations

import functools
import re
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


class _Handler(SimpleHTTPRequestHandler):
    def do_GET(self) -> None:
        assert isinstance(self.server, PackageIndex)
        self.server.asked.append(self.path)
        super().do_GET()

    def log_message(self, *_: object) -> None:
        pass


class PackageIndex(ThreadingHTTPServer):
    """Serves a folder.

    Attributes:
        asked: every path that was asked for.
    """

    daemon_threads = True

    def __init__(self, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), functools.partial(_Handler, directory=str(folder)))
        self.folder = folder
        self.asked: list[str] = []

    def url(self, name: str) -> str:
        """The address to give pip for one of the indexes below the folder."""
        return f"http://127.0.0.1:{self.server_port}/{name}/simple/"

    def publish(self, name: str, wheels: Path) -> None:
        """Make an index of the wheels and sources in a folder, anew: a page for each project, links
        to its files."""
        projects: dict[str, list[Path]] = {}
        shutil.rmtree(self.folder / name, ignore_errors=True)
        for wheel in sorted([*wheels.glob("*.whl"), *wheels.glob("*.tar.gz")]):
            project = re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower()
            projects.setdefault(project, []).append(wheel)
        for project, files in projects.items():
            page = self.folder / name / "simple" / project
            page.mkdir(parents=True)
            for file in files:
                (page / file.name).write_bytes(file.read_bytes())
            links = "".join(f'<a href="{file.name}">{file.name}</a>\n' for file in files)
            (page / "index.html").write_text(f"<!DOCTYPE html><html><body>\n{links}</body></html>")

    def fetched(self, name: str) -> set[str]:
        """Names of the wheels that were taken from one of the indexes."""
        start = f"/{name}/simple/"
        paths = [path.split("#")[0] for path in self.asked if path.startswith(start)]
        return {path.rpartition("/")[2] for path in paths if path.endswith(".whl")}


@contextmanager
def served(folder: Path) -> Iterator[PackageIndex]:
    """An index while the context is open."""
    server = PackageIndex(folder)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
