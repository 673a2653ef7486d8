"""Fetching weights from a real HTTP server that answers as the model hub does."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote

import pytest

from ishowtts_ops.config import Settings, parse
from ishowtts_ops.errors import OpsError
from ishowtts_ops.host import Host
from ishowtts_ops.provision.weights import WEIGHTS_DIR, WeightsStep, resolve
from ishowtts_ops.steps import Ledger

CHECKPOINT = bytes(range(256)) * (24 << 12)  # 24 MiB: the hub's client writes in pieces of ten
COMMIT = "0" * 39 + "1"


class Hub(ThreadingHTTPServer):
    """Files by path, served with the hub's headers; can break a download off half-way."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = {
            "/SWivid/F5-TTS/resolve/main/F5TTS_v1_Base/model_1250000.safetensors": CHECKPOINT,
            "/charactr/vocos-mel-24khz/resolve/main/config.yaml": b"feature_extractor: {}\n",
            "/charactr/vocos-mel-24khz/resolve/main/pytorch_model.bin": b"vocos" * 1000,
        }
        self.break_after: int | None = None
        self.lie: bool = False
        self.bytes_sent = 0
        self.ranges: list[str] = []

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        content = self.server.files.get(unquote(self.path))
        if content is None:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        digest = (
            hashlib.sha256(content).hexdigest()
            if not self.path.endswith(".yaml")
            else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        )
        start = 0
        wanted = self.headers.get("Range")
        if wanted:
            self.server.ranges.append(wanted)
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("ETag", f'"{digest}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if not body:
            return
        if self.server.lie:
            content = content[:-1] + b"!"
        data = content[start:]
        limit = self.server.break_after
        if limit is not None and len(data) > limit:
            data = data[:limit]
            self.server.break_after = None
            self.close_connection = True
        self.wfile.write(data)
        self.server.bytes_sent += len(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub() -> Iterator[Hub]:
    server = Hub()
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def step(tmp_path: Path, hub: Hub, extra: str = "") -> tuple[Host, WeightsStep]:
    host = Host.at(tmp_path)
    settings = parse(f"f5: {{hub_endpoint: '{hub.endpoint}'{extra}}}", "test")
    return host, WeightsStep(settings, Ledger.open(host))


def run(host: Host, weights: WeightsStep) -> None:
    change = weights.diff(host)
    assert change is not None
    change.apply(lambda _: None)


def test_everything_is_fetched_checked_and_then_left_alone(tmp_path: Path, hub: Hub) -> None:
    host, weights = step(tmp_path, hub)
    run(host, weights)
    found = resolve(host, weights.settings)
    assert found.ckpt_file is not None
    assert host.read_bytes(found.ckpt_file) == CHECKPOINT
    assert found.vocoder_path == f"{WEIGHTS_DIR}/charactr/vocos-mel-24khz"
    assert host.exists(f"{found.vocoder_path}/config.yaml")
    sent = hub.bytes_sent
    assert weights.diff(host) is None
    assert hub.bytes_sent == sent


def test_a_broken_download_is_resumed(tmp_path: Path, hub: Hub) -> None:
    host, weights = step(tmp_path, hub)
    hub.break_after = 15 << 20
    run(host, weights)
    assert any(not wanted.startswith("bytes=0-") for wanted in hub.ranges), "began from zero"
    found = resolve(host, weights.settings)
    assert found.ckpt_file is not None
    assert host.read_bytes(found.ckpt_file) == CHECKPOINT


def test_damaged_content_is_thrown_away(tmp_path: Path, hub: Hub) -> None:
    host, weights = step(tmp_path, hub)
    hub.lie = True
    with pytest.raises(OpsError, match="damaged"):
        run(host, weights)
    assert weights.diff(host) is not None
    hub.lie = False
    run(host, weights)
    assert weights.diff(host) is None


def test_a_missing_hub_is_a_sentence_with_a_next_step(tmp_path: Path, hub: Hub) -> None:
    hub.files.clear()
    host, weights = step(tmp_path, hub)
    with pytest.raises(OpsError, match="could not be fetched") as caught:
        run(host, weights)
    assert "hub_endpoint" in caught.value.hint


def test_named_files_are_taken_and_must_exist(tmp_path: Path, hub: Hub) -> None:
    host, weights = step(tmp_path, hub, ", ckpt_file: /m.safetensors, vocoder_path: /vocos")
    with pytest.raises(OpsError, match=r"/m\.safetensors is not on the box"):
        weights.diff(host)
    host.write("/m.safetensors", b"x")
    host.mkdir("/vocos")
    assert weights.diff(host) is None


def test_random_weights_fetch_nothing(tmp_path: Path) -> None:
    host = Host.at(tmp_path)
    settings = Settings.model_validate({"f5": {"weights": "random"}})
    assert WeightsStep(settings, Ledger.open(host)).diff(host) is None


def test_an_unpublished_model_needs_a_file(tmp_path: Path) -> None:
    settings = Settings.model_validate({"f5": {"model": "MyOwn"}})
    with pytest.raises(OpsError, match="MyOwn") as caught:
        resolve(Host.at(tmp_path), settings)
    assert "ckpt_file" in caught.value.hint
