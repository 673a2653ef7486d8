"""The alert rules and the dashboard speak of metrics that a real daemon serves."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ishowtts_ops.daemon.metrics_box import BoxReadings
from ishowtts_ops.host import Host
from tests.service.daemon.daemon_server import Server, serving

CONFIG = Path(__file__).resolve().parents[3] / "config"
RULES = CONFIG / "prometheus-rules.yml"
DASHBOARD = CONFIG / "grafana-dashboard.json"


def expressions() -> list[str]:
    rules = yaml.safe_load(RULES.read_text())["groups"][0]["rules"]
    panels = json.loads(DASHBOARD.read_text())["panels"]
    return [rule["expr"] for rule in rules] + [
        target["expr"] for panel in panels for target in panel["targets"]
    ]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    daemon = {"batch": 2}
    with serving(tmp_path_factory.mktemp("metrics"), daemon=daemon) as made:
        made.wait_ready()
        assert made.speak("something to count").status_code == 200
        assert made.speak("").status_code == 400
        yield made


def test_every_metric_they_name_is_served(server: Server) -> None:
    text = server.http.get("/metrics").text
    served = {
        sample.name for family in text_string_to_metric_families(text) for sample in family.samples
    }
    families = set(re.findall(r"^# TYPE (\S+) ", text, re.MULTILINE))
    named = {
        name for expression in expressions() for name in re.findall(r"ishowtts_\w+", expression)
    }
    assert len(named) > 20
    for name in named:
        base = re.sub(r"_(bucket|sum|count)$", "", name)
        assert name in served or base in families or name in families, name
    assert all(re.search(r"ishowtts_\w+|up\{", one) for one in expressions())


def test_names_and_units_are_as_prometheus_wants_them(server: Server) -> None:
    for family in text_string_to_metric_families(server.http.get("/metrics").text):
        if family.name.startswith("ishowtts_"):
            assert not re.search(r"_(ms|millis|mb|kb|percent)(_|$)", family.name), family.name
            assert family.documentation.endswith("."), family.name


def test_labels_of_the_rules_have_the_values_the_daemon_gives(server: Server) -> None:
    assert server.metric("ishowtts_requests_total", outcome="ok", engine="tone") == 1
    assert server.metric("ishowtts_drops_total", reason="input_empty") == 1


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_accepts_rules_and_metrics(server: Server) -> None:
    checked = subprocess.run(
        ["promtool", "check", "rules", str(RULES)], capture_output=True, text=True
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
    linted = subprocess.run(
        ["promtool", "check", "metrics"],
        input=server.http.get("/metrics").text,
        capture_output=True,
        text=True,
    )
    ours = [line for line in linted.stderr.splitlines() if line.startswith("ishowtts_")]
    assert ours == []


def test_clocks_and_heat_are_read_off_the_box(tmp_path: Path) -> None:
    def write(path: str, text: str) -> None:
        file = tmp_path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text + "\n")

    readings = BoxReadings(Host.at(tmp_path))
    assert str(readings.clocks_locked()) == str(readings.throttles()) == "nan"
    gpu = "sys/class/devfreq/17000000.gpu"
    write(f"{gpu}/min_freq", "306000000")
    write(f"{gpu}/max_freq", "1300500000")
    assert readings.clocks_locked() == 0
    write(f"{gpu}/min_freq", "1300500000")
    assert readings.clocks_locked() == 1
    write("sys/class/thermal/cooling_device3/type", "gpu-throttle-alert")
    write("sys/class/thermal/cooling_device3/cur_state", "2")
    write("sys/class/thermal/cooling_device4/type", "pwm-fan")
    write("sys/class/thermal/cooling_device4/cur_state", "3")
    assert readings.throttles() == 1
    write("sys/class/thermal/thermal_zone0/temp", "61500")
    write("sys/class/thermal/thermal_zone1/temp", "-256000")
    assert readings.hottest() == 61.5
