"""The support bundle: all that was seen is in it, and no secret, wherever on the box one lies."""

from __future__ import annotations

import io
import json
import os
import stat
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from ishowtts_ops.cli import render
from ishowtts_ops.config import CONFIG_PATH, MANIFEST_PATH
from ishowtts_ops.doctor import bundle, scrubbing
from ishowtts_ops.provision.units import CLOCKS, DAEMON, UNIT_DIR, UNITS
from ishowtts_ops.sim.faults import apply_fault
from tests.service.doctor import breaking
from tests.service.doctor.healthy import HealthyBox

Take = Callable[..., HealthyBox]

KINDS = {
    "api key header": "X-API-Key: {0}",
    "api key": "api_key={0}",
    "api keys of a list": "ISHOWTTS_API_KEYS={0},second",
    "quoted": 'HF_TOKEN="{0} with a blank"',
    "json": '{{"access_token": "{0}", "n": 1}}',
    "python": "{{'password': '{0}'}}",
    "option": "--hf-token {0} --port 1",
    "bearer": "Authorization: Bearer {0}",
    "cookie": "Cookie: SESSDATA={0}; bili_jct=0{0}",
    "who asks": "https://me:{0}@models.example.org/a",
    "who asks, alone": "https://{0}@models.example.org/a",
    "asked for": "https://chat.example.org/robot/send?access={0}&b=1",
    "slack": "https://hooks.slack.com/services/T024/B02/{0}",
    "discord": "https://discord.com/api/webhooks/1234/{0}",
    "telegram": "https://api.telegram.org/bot123456:{0}/sendMessage",
    "bot": "123456789:AA{0}AAAAAAAAAAAAAAAAAAAA",
    "hook": "https://chat.example.org/hooks/{0}",
    "path": "https://chat.example.org/v1/{0}aaaaaaaaaaaa0/x",
    "hf": "fetching with hf_{0}aaaaaaaa",
    "openai": "sk-proj-{0}aaaaaaaaaaaa",
    "git": "github_pat_{0}aaaaaaaaaaa",
    "jwt": "eyJhbGciOiJIUzI1NiJ9.{0}.abc",
    "aws": "AKIA{0:0>16.16}",
    "key file": "-----BEGIN OPENSSH PRIVATE KEY-----\n{0}\n-----END OPENSSH PRIVATE KEY-----",
}
"""How secrets look, with a place for the secret itself."""

HASHED = {
    "sha256": "sha256:" + "0123456789abcdef" * 4,
    "scrypt": "scrypt:16384:8:1:" + "ab12cd34" * 4 + ":" + "fe98dc76" * 8,
}


def unpack(data: bytes) -> dict[str, str]:
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        return {
            member.name.split("/", 1)[1]: (archive.extractfile(member) or io.BytesIO())
            .read()
            .decode()
            for member in archive.getmembers()
        }


class Planted:
    """Secrets, each another one, and where each of them lies."""

    def __init__(self) -> None:
        self.where: dict[str, str] = {}

    def secret(self, where: str) -> str:
        told = f"{'AXQZ'}{len(self.where):06d}X"
        self.where[told] = where
        return told

    def lines(self, place: str) -> str:
        """One line of each kind."""
        return "".join(
            form.format(self.secret(f"{kind} in {place}")) + "\n" for kind, form in KINDS.items()
        )

    def found_in(self, files: dict[str, str]) -> list[str]:
        return [
            f"{where}: {name}"
            for name, text in files.items()
            for secret, where in self.where.items()
            if secret in text
        ]


def bundled(box: HealthyBox, config_text: str) -> dict[str, str]:
    return unpack(bundle.pack(bundle.collect(box.examine(), config_text, render.plain)))


def test_it_holds_what_was_seen(healthy: Take) -> None:
    box = healthy()
    apply_fault(box.root, "clocks-unlocked")
    breaking.journal(box, DAEMON, "the engine spoke 2.1 s\n")
    box.host.write(f"{UNIT_DIR}/{DAEMON}.d/mine.conf", "[Service]\nNice=5\n")
    files = bundled(box, box.host.read_text(CONFIG_PATH))
    assert {"report.json", "facts.json", "config.yaml", "ledger.txt", "manifest.json"} <= set(files)
    assert f"units/{DAEMON}" in files and "Nice=5" in files[f"units/{DAEMON}.d/mine.conf"]
    assert "the engine spoke 2.1 s" in files[f"journal/{DAEMON}.txt"]
    assert "R36 (release)" in files["box/etc/nv_tegra_release"]
    report = json.loads(files["report.json"])
    assert report["checks"]["clocks-gpu"] == "error"
    facts = json.loads(files["facts.json"])
    assert facts["identity"]["module"]["key"] == "agx-orin-64"
    assert "power" in files["ledger.txt"]
    assert "data" not in files["ledger.txt"], "what was in the files is their owner's"


def test_no_secret_from_any_place(healthy: Take) -> None:
    """Every kind, in everything that is read into the bundle; and what lies beside it."""
    box, planted = healthy(), Planted()
    plant(box, planted)
    keys = [{"name": f"caller-{n}", "hash": text} for n, text in enumerate(HASHED.values())]
    sections = {
        "daemon": {"host": "0.0.0.0", "api_keys": keys, "api_key_file": "/etc/ishowtts-ops/key"},
        "notify": {
            "webhook": f"https://chat.example.org/x/{planted.secret('notify.webhook')}",
            "command": ["tell", planted.secret("notify.command")],
        },
        "backend": {
            "environment": {"PLAIN": planted.secret("backend.environment")},
            "command": ["serve", "--word", planted.secret("backend.command")],
            "warmup": [{"path": "/a", "body": {"word": planted.secret("backend.warmup body")}}],
            "url": f"http://me:{planted.secret('backend.url')}@127.0.0.1:1",
        },
        "engine": {"torch_index": f"https://me:{planted.secret('index')}@models.example.org/jp6"},
    }
    text = box.host.read_text(CONFIG_PATH) + f"# token {planted.secret('a comment')}\n"
    raw = yaml.safe_load(text)
    for section, values in sections.items():
        raw.setdefault(section, {}).update(values)
    files = bundled(box, f"# {planted.secret('a comment above')}\n" + yaml.safe_dump(raw))
    assert len(planted.where) > 200
    assert planted.found_in(files) == []
    everything = "\n".join(files.values())
    assert [name for name, value in HASHED.items() if value.partition(":")[2] in everything] == []
    # What a reader needs is still there.
    config = yaml.safe_load(files["config.yaml"])
    assert [key["name"] for key in config["daemon"]["api_keys"]] == ["caller-0", "caller-1"]
    assert config["daemon"]["api_key_file"] == "/etc/ishowtts-ops/key"
    assert "WatchdogSec=30" in files[f"units/{DAEMON}"]
    assert "Environment=HOME=/var/lib/ishowtts-tts" in files[f"units/{DAEMON}"]


def plant(box: HealthyBox, planted: Planted) -> None:
    """Secrets in all that a bundle is made of."""
    host = box.host
    for name in UNITS:
        if host.lexists(f"{UNIT_DIR}/{name}"):
            breaking.journal(box, name, planted.lines(f"the journal of {name}"))
    breaking.journal(
        box,
        "init",
        "2026-11-22T10:00:00.000001 systemd[1]: a.target: Found ordering cycle on a.service/start"
        f" token={planted.secret('the ordering cycles')}\n",
    )
    environment = "".join(
        f'Environment={name}={planted.secret(f"Environment={name}")} "B={planted.secret("B")} c"\n'
        for name in ("HF_TOKEN", "PLAIN", "HOMEWORK")
    )
    credential = f"SetCredential=key:{planted.secret('SetCredential')}\n"
    start = f"ExecStart=/bin/x --token={planted.secret('ExecStart')}\n"
    text = f"[Service]\n{environment}{credential}{start}EnvironmentFile=/etc/default/x\n"
    host.write(f"{UNIT_DIR}/{DAEMON}.d/mine.conf", text)
    # A unit of ours that was edited: doctor shows the lines, as evidence.
    guard = f"{UNIT_DIR}/{CLOCKS}"
    host.write(guard, host.read_text(guard).replace("[Service]\n", text))
    # Somebody else's unit and rc.local, which doctor quotes as rivals.
    host.write("/etc/rc.local", f"jetson_clocks --password={planted.secret('rc.local')}\n")
    apply_fault(box.root, "rival-unit")
    unit = f"{UNIT_DIR}/jetson_clocks.service"
    told = f"jetson_clocks --api-key {planted.secret('a rival')}"
    host.write(unit, host.read_text(unit).replace("jetson_clocks\n", f"{told}\n"))
    os_release = host.read_text("/etc/os-release")
    host.write("/etc/os-release", os_release + planted.lines("/etc/os-release"))
    manifest = json.loads(host.read_text(MANIFEST_PATH))
    manifest["voices"][0]["text"] = f"My password: {planted.secret('a transcript')}"
    host.write(MANIFEST_PATH, json.dumps(manifest))
    # Not in the bundle at all.
    for path in (
        "/etc/default/x",
        "/etc/ishowtts-ops/key",
        "/root/.cache/huggingface/token",
        "/root/.netrc",
        "/opt/ishowtts/.env",
    ):
        host.write(path, planted.lines(path))
    ishowtts = breaking.ISHOWTTS
    cookie = f'\n[danmaku.bilibili.login]\ncookie = "{planted.secret("ishowtts.toml")}"\n'
    host.write(ishowtts, host.read_text(ishowtts) + cookie)
    # What the daemon says last becomes part of a finding.
    breaking.daemon(box, {"active": "failed", "sub": "failed", "exit_status": 78, "main_pid": 0})
    said = f"The index https://me:{planted.secret('last words')}@models.example.org refuses.\n"
    breaking.journal(box, DAEMON, said)


def test_it_is_its_owners_and_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "b.tar.gz"
    bundle.save(path, b"x")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with pytest.raises(OSError):
        bundle.save(tmp_path / "nowhere" / "b.tar.gz", b"x")
    assert os.listdir(tmp_path) == ["b.tar.gz"]


# ---- removing --------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_by_its_look(kind: str) -> None:
    for around in ("{}", "at 10:00 {}", "  {} and on"):
        assert "AXQZ4711X" not in scrubbing.scrub(around.format(KINDS[kind].format("AXQZ4711X")))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("token: abcdef123456", "token: "),
        ('{"api_key": "abcdef123456"}', '{"api_key": '),
        ("PASSWORD='abcdef123456' run", " run"),
        ("https://user:abcdef123456@host/x", "@host/x"),
        ("hf_abcdef123456789", ""),
        ("Authorization: Basic abcdef123456==", "Authorization: "),
        ("https://discord.com/api/webhooks/1/abcdef123456", "https://discord.com/"),
    ],
)
def test_what_stands_around_it_stays(text: str, kept: str) -> None:
    assert "abcdef123456" not in scrubbing.scrub(text)
    assert kept in scrubbing.scrub(text)


@pytest.mark.parametrize(
    "text",
    [
        "RTF 0.169",
        "GET http://127.0.0.1:27130/readyz",
        "3 tokens spoken",
        "min_freq = 5",
        "systemctl show ishowtts-tts.service Result = exit-code",
        "ExecStart=/opt/ishowtts-ops/venv/bin/ishowtts-ops serve",
        "Environment=HOME=/var/lib/ishowtts-tts USER=ishowtts",
        "/sys/devices/platform/bus@0/17000000.gpu/devfreq",
        "2026-11-22T10:00:00.000001 systemd[1]: Watchdog timeout (limit 30s)!",
        "EnvironmentFile=/etc/default/x",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert scrubbing.scrub(text) == text


SECRET = st.text(
    st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="\"'\\,;})]"),
    min_size=6,
    max_size=40,
)


@given(SECRET, st.sampled_from(["token", "HF_TOKEN", "api-key", "db.password", "webhook_url"]))
@example("a=b:c", "token")
def test_whatever_stands_under_such_a_name_goes(secret: str, name: str) -> None:
    for form in (f"{name}={secret}", f'"{name}": "{secret}"', f"{name}: '{secret}'"):
        assert secret not in scrubbing.scrub(form).replace(name, ""), form
        config = yaml.safe_dump({"x": [{name: secret}, {name: [secret]}, {name: {"y": secret}}]})
        assert secret not in scrubbing.without_secrets(config).replace(name, "")


@given(st.text(max_size=200))
def test_scrubbing_never_fails_and_once_is_enough(text: str) -> None:
    once = scrubbing.scrub(text)
    assert scrubbing.scrub(once) == once


def test_a_configuration_that_is_no_yaml_is_left_out() -> None:
    for text in ("a: [secret", "- &a [*a, secret]", "secret: 0b", "2001-99-99", "[" * 3000):
        assert "secret" not in scrubbing.without_secrets(text).replace("secret: ", "")
