"""What `supervise` accepts, and the sentences for what it does not."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from ishowtts_ops import config
from ishowtts_ops.cli.app import run
from ishowtts_ops.config import Backend, BackendRequest
from ishowtts_ops.errors import ConfigError, UsageError
from ishowtts_ops.host import Host
from ishowtts_ops.provision.units import BACKEND, UNIT_DIR, rendered
from ishowtts_ops.supervise.plan import make_plan, parse_request
from tests.service.supervise.supervised import PROGRAM


def test_the_preset_knows_ishowtts_backend() -> None:
    plan = make_plan(Backend(command=("sh",)))
    assert [r.path for r in plan.health] == ["http://127.0.0.1:27121/api/health"]
    assert {(r.method, r.path, r.expect) for r in plan.warmup} == {
        ("POST", "http://127.0.0.1:27121/api/tts", "audio")
    }
    lengths = [len(r.body["text"]) for r in plan.warmup]
    assert min(lengths) < 10 and max(lengths) > 100
    assert plan.canary is not None and plan.canary.expect == "audio"


def test_what_is_given_comes_before_the_preset() -> None:
    canary = BackendRequest(path="http://127.0.0.1:9/other")
    backend = Backend(
        command=("sh",), url="http://127.0.0.1:8000/base/", health=("/live", "/ready"), warmup=(),
        canary=canary,
    )  # fmt: skip
    plan = make_plan(backend)
    assert [r.path for r in plan.health] == [
        "http://127.0.0.1:8000/base/live",
        "http://127.0.0.1:8000/base/ready",
    ]
    assert plan.warmup == ()
    assert plan.canary == canary


@pytest.mark.parametrize(
    ("text", "method", "path", "body", "expect"),
    [
        ("/health", "GET", "/health", None, "ok"),
        ("HEAD /x => ok", "HEAD", "/x", None, "ok"),
        ('/tts {"text": "a => b"} => audio', "POST", "/tts", {"text": "a => b"}, "audio"),
        ('POST /tts {"a": [1, 2]}', "POST", "/tts", {"a": [1, 2]}, "ok"),
        ("GET http://127.0.0.1:1/a=b => contains:all = well", "GET", "http://127.0.0.1:1/a=b",
         None, "contains:all = well"),
        ('PUT /x "text"=>json', "PUT", "/x", "text", "json"),
    ],
)  # fmt: skip
def test_a_request_in_words(text: str, method: str, path: str, body: object, expect: str) -> None:
    found = parse_request(text)
    assert (found.method, found.path, found.body, found.expect) == (method, path, body, expect)


@pytest.mark.parametrize(
    "text", ["", "GET", "nope", "/x {bad}", "/x => loud", "/x => contains:", "/x =>", "/x {} audio"]
)
def test_a_request_that_is_none(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_request(text)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--", "no-such-command"], "`no-such-command` is not in PATH"),
        (["--", "/no/such/command"], "There is no program /no/such/command"),
        (["--", "/etc/passwd"], "/etc/passwd cannot be executed.*next: .*chmod"),
        (["--", "true"], "Nothing says how to tell that the command is healthy"),
        (["--health", "/x", "--", "true"], r"Where is /x\? There is no address"),
        (["--health", "http://", "--", "true"], "'http://' is not the address of a service"),
        (["--url", "localhost", "--health", "/x", "--", "true"], "--url localhost: it should be"),
        (["--url", "http://h:99999", "--health", "/", "--", "true"], "--url .*ort out of range"),
        (["--preset", "riva", "--", "true"], "--preset riva: .*'ishowtts' or 'none'"),
        (["--preset", "ishowtts", "--stop-seconds", "-1", "--", "true"], "--stop-seconds -1"),
        (["--directory", "/no/where", "--preset", "ishowtts", "--", "true"], "no folder /no/where"),
        (["--preset", "ishowtts", "--canary", "x", "--", "true"], "'x' is no request"),
        # Options of the command are not ours: no traceback, no JSON.
        (["--", "no-such-command", "--debug", "--json"], "`no-such-command` is not in PATH"),
    ],
)
def test_a_mistake_is_a_sentence(
    words: list[str], sentence: str, capfd: pytest.CaptureFixture[str]
) -> None:
    # In this process: it ends before it starts anything.
    assert run(["supervise", *words]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert re.search(sentence, said), said
    assert "Traceback" not in said


def test_without_a_command_the_configuration_counts(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("backend: {command: [/no/such/backend]}")
    assert run(["supervise", "--config", str(file)]) == 2
    assert "/no/such/backend" in capfd.readouterr().err
    file.write_text("{}")
    assert run(["supervise", "--config", str(file)]) == 2
    assert "There is no command to supervise" in capfd.readouterr().err


def test_help_teaches_with_examples() -> None:
    done = subprocess.run([*PROGRAM, "--help"], capture_output=True, text=True, check=True)
    text = " ".join(done.stdout.split())
    assert "ishowtts-ops supervise --preset ishowtts -- ./scripts/run_backend.sh --warmup" in text
    assert "Type=notify" in text


def test_backend_and_daemon_need_a_port_each() -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse("{backend: {command: [x]}, daemon: {port: 27121}}", "test.yaml")
    assert [problem.where for problem in caught.value.problems] == ["daemon.port"]
    config.parse("daemon: {port: 27121}", "test.yaml")


def test_the_units_watchdog_is_slower_than_our_verdict(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "opt/ishowtts").mkdir(parents=True)
    (tmp_path / "etc/passwd").write_text(f"me:x:{os.getuid()}:0::/:/bin/sh\n")
    host = Host.at(tmp_path)
    settings = config.parse("backend: {command: [x], canary_timeout: 99.5}", "test.yaml")
    text = rendered(host, settings)[f"{UNIT_DIR}/{BACKEND}"]
    watchdog = int(re.findall(r"^WatchdogSec=(\d+)$", text, re.MULTILINE)[0])
    assert watchdog > settings.backend.verdict_seconds > 2 * 99.5
    assert "\nUser=me\n" in text
    other = config.parse("backend: {command: [y], user: tts}", "test.yaml")
    changed = rendered(host, other)[f"{UNIT_DIR}/{BACKEND}"]
    assert "\nUser=tts\n" in changed
    assert changed.splitlines()[1] != text.splitlines()[1], "its settings are in its text"
    assert f"{UNIT_DIR}/{BACKEND}" not in rendered(host, config.Settings())
