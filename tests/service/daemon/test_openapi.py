"""The running daemon against its own description: valid, complete, and kept."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest
import schemathesis
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from ishowtts_ops.daemon.failures import TABLE
from tests.service.daemon.daemon_server import Server, serving

EXAMPLES = 12


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(
        tmp_path_factory.mktemp("openapi"),
        daemon={"state_dir": str(tmp_path_factory.mktemp("state"))},
    ) as running:
        yield running.wait_ready()


@pytest.fixture(scope="module")
def description(server: Server) -> dict[str, Any]:
    schema: dict[str, Any] = server.http.get("/openapi.json").json()
    return schema


PATHS = {
    "/v1/audio/speech": {"post"},
    "/v1/models": {"get"},
    "/v1/models/{model}": {"get"},
    "/v1/voices": {"get", "post"},
    "/v1/voices/{voice_id}": {"get", "put", "delete"},
    "/v1/voices/{voice_id}/audio": {"get"},
    "/v1/stats": {"get"},
    "/v1/box": {"get"},
    "/api/health": {"get"},
    "/api/voices": {"get"},
    "/api/tts": {"post"},
    "/api/voices/{voice_id}/reference": {"get", "post", "delete"},
    "/api/voices/{voice_id}/reference/audio": {"get"},
    "/livez": {"get"},
    "/readyz": {"get"},
    "/metrics": {"get"},
}


def test_every_route_is_described(description: dict[str, Any]) -> None:
    assert {path: set(item) for path, item in description["paths"].items()} == PATHS


def test_every_reference_leads_somewhere(description: dict[str, Any]) -> None:
    def walk(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            if "$ref" in value:
                yield value["$ref"]
            for item in value.values():
                yield from walk(item)
        elif isinstance(value, list):
            for item in value:
                yield from walk(item)

    known = {f"#/components/schemas/{name}" for name in description["components"]["schemas"]}
    assert set(walk(description)) == known


def test_speech_documents_every_row_of_the_error_table(description: dict[str, Any]) -> None:
    documented = description["paths"]["/v1/audio/speech"]["post"]["responses"]
    assert {str(row.status) for row in TABLE.values()} <= set(documented)
    for row in TABLE.values():
        assert row.code in documented[str(row.status)]["description"]


@pytest.mark.parametrize(
    ("path", "method"), [(p, m) for p, ms in PATHS.items() for m in sorted(ms)]
)
def test_the_daemon_keeps_its_description(server: Server, path: str, method: str) -> None:
    """Random requests within and beyond the description: never an answer of 5xx, never one whose
    status, type or shape is not described."""
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")
    operation = schema[path][method.upper()]

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def keeps(case: schemathesis.Case) -> None:
        answer = case.call(base_url=server.url)
        case.validate_response(
            answer,
            checks=[
                not_a_server_error,
                status_code_conformance,
                content_type_conformance,
                response_schema_conformance,
            ],
        )

    keeps()
    assert server.status("/livez") == 200


def test_keys_and_what_the_gate_answers_are_described(description: dict[str, Any]) -> None:
    assert {"http", "apiKey"} == {
        scheme["type"] for scheme in description["components"]["securitySchemes"].values()
    }
    assert {} in description["security"], "a daemon on loopback wants none"
    for path, item in description["paths"].items():
        for method, operation in item.items():
            wants = {"401"} if path not in ("/livez", "/api/health", "/metrics") else set()
            wants |= {"403"} if method in ("post", "put", "delete") else set()
            assert wants <= set(operation["responses"]), (path, method)
