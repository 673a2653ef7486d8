"""The alert rules and the dashboard speak of metrics that a real daemon serves."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from ishowtts_ops.daemon.metrics_box import BoxReadings
from ishowtts_ops.daemon.metrics_lives import CAUSES
from ishowtts_ops.host import Host
from tests.service.daemon.daemon_server import Server, serving

CONFIG = Path(__file__).resolve().parents[3] / "config"
RULES = CONFIG / "prometheus-rules.yml"
DASHBOARD = CONFIG / "grafana-dashboard.json"
PROMTOOL = os.environ.get("PROMTOOL") or shutil.which("promtool")


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


def test_what_only_grows_is_a_counter(server: Server) -> None:
    text = server.http.get("/metrics").text
    kinds = dict(re.findall(r"^# TYPE (ishowtts_\S+) (\S+)$", text, re.MULTILINE))
    counters = {name for name, kind in kinds.items() if kind == "counter"}
    assert {
        "ishowtts_requests_total",
        "ishowtts_drops_total",
        "ishowtts_audio_seconds_total",
        "ishowtts_fallbacks_total",
        "ishowtts_restarts_total",
        "ishowtts_reloads_total",
        "ishowtts_canaries_total",
    } == counters
    others = set(kinds) - counters
    assert not [name for name in others if name.endswith(("_total", "_count", "_created"))]


def test_what_alerts_look_at_is_there_before_it_happens(server: Server) -> None:
    """A series that begins at 1 never increased, so the first of its kind would alert nobody."""
    begun = {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(server.http.get("/metrics").text)
        for sample in family.samples
    }
    assert begun["ishowtts_reloads_total", "refused"] == 0
    assert begun["ishowtts_requests_total", "failed", "tone"] == 0
    for cause in CAUSES:
        assert begun["ishowtts_restarts_total", cause] == 0


def test_labels_of_the_rules_have_the_values_the_daemon_gives(server: Server) -> None:
    assert server.metric("ishowtts_requests_total", outcome="ok", engine="tone") == 1
    assert server.metric("ishowtts_drops_total", reason="input_empty") == 1


needs_promtool = pytest.mark.skipif(
    PROMTOOL is None,
    reason="promtool is not there: `apt-get install prometheus` brings it, or PROMTOOL=/path/to/it",
)


def promtool(*words: str, text: str | None = None) -> subprocess.CompletedProcess[str]:
    argv = [str(PROMTOOL), *words]
    return subprocess.run(argv, input=text, capture_output=True, text=True, check=False)


@needs_promtool
def test_promtool_accepts_rules_and_metrics(server: Server) -> None:
    checked = promtool("check", "rules", str(RULES))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    linted = promtool("check", "metrics", text=server.http.get("/metrics").text)
    ours = [line for line in linted.stderr.splitlines() if line.startswith("ishowtts_")]
    assert ours == []


@needs_promtool
def test_promtool_understands_every_expression_of_the_dashboard(tmp_path: Path) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    rules = [
        {"record": f"panel:{number}", "expr": query.replace("$box", ".*")}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "panels.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    checked = promtool("check", "rules", str(file))
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert f"{len(queries)} rules found" in checked.stdout


ALERTS = {
    "IshowttsDown": ('up{job="ishowtts"}', "0x15", "1x15"),
    "IshowttsNotReady": ("ishowtts_ready", "0x15", "0 1x14"),
    "IshowttsEngineStands": ("ishowtts_progress_age_seconds", "60x15", "3x15"),
    "IshowttsRestarts": ('ishowtts_restarts_total{cause="device"}', "1+1x15", "4x15"),
    "IshowttsOverloaded": ('ishowtts_drops_total{reason="queue_full"}', "0+60x15", "0+1x15"),
    "IshowttsFallbackSpeaks": ("ishowtts_fallbacks_total", "0+10x15", "9x15"),
    "IshowttsClocksUnlocked": ("ishowtts_clocks_locked", "0x15", "1x15"),
    "IshowttsThrottled": ("ishowtts_throttles", "1x15", "0x15"),
    "IshowttsReloadRefused": ('ishowtts_reloads_total{outcome="refused"}', "0 1x14", "1x15"),
}
"""What a metric does, minute by minute, when an alert must be on in the end, and when not."""


@needs_promtool
@pytest.mark.parametrize("alert", ALERTS)
def test_alerts_are_on_when_they_should_be(tmp_path: Path, alert: str) -> None:
    series, bad, good = ALERTS[alert]
    for name, values, firing in (("bad", bad, True), ("good", good, False)):
        query = f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'
        wanted = [{"labels": "{}", "value": int(firing)}]
        test = {
            "interval": "1m",
            "input_series": [{"series": series, "values": values}],
            "promql_expr_test": [{"expr": query, "eval_time": "14m", "exp_samples": wanted}],
        }
        file = tmp_path / f"{name}.yml"
        file.write_text(yaml.safe_dump({"rule_files": [str(RULES)], "tests": [test]}))
        checked = promtool("test", "rules", str(file))
        assert checked.returncode == 0, checked.stdout + checked.stderr


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
