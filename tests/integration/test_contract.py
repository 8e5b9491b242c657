"""The OpenAPI document is valid and complete, and the service conforms to it."""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import schemathesis
from flask import Flask
from jsonschema import Draft202012Validator, FormatChecker
from PIL import Image
from referencing import Registry
from referencing.jsonschema import DRAFT202012

from sceneseek.pending_changes import PendingChanges
from sceneseek.search import Search
from sceneseek_server.access.keys import add_key, new_key
from sceneseek_server.app import create_app
from sceneseek_server.responses import PROBLEM_MEDIA_TYPE
from sceneseek_server.service import AccessSettings
from tests.contract_cases import PHASES, Outcome, check, contract

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

# The page and its static files are not part of the API.
NOT_OPERATIONS = {"static", "page"}
# The minimum number of cases: 5,000 take some minutes (use --timeout=0).
CASES = int(os.environ.get("SCENESEEK_TEST_CASES", "0"))
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


@pytest.fixture(scope="module")
def app(search: Search, tmp_path_factory: pytest.TempPathFactory) -> Flask:
    search.follower.follow()  # otherwise the service is not ready
    home = tmp_path_factory.mktemp("uploads")
    (home / "photos").mkdir()
    pending = PendingChanges(home / "photos")
    pending.prepare()
    key = new_key("cases", datetime.now(UTC), write=True)
    add_key(home / "keys.json", key)
    application = create_app(search, AccessSettings(api_keys=home / "keys.json"), pending=pending)
    inner = application.wsgi_app

    def authenticated(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Add the key, and close the response: the client of schemathesis leaves responses and their files open."""
        environ["HTTP_X_API_KEY"] = key.secret
        answer = inner(environ, start_response)
        try:
            return [b"".join(answer)]
        finally:
            getattr(answer, "close", lambda: None)()

    application.wsgi_app = authenticated  # type: ignore[method-assign]  # Flask's documented place for a middleware
    return application


@pytest.fixture(scope="module")
def document(app: Flask) -> dict[str, Any]:
    document: dict[str, Any] = app.test_client().get("/openapi.json").get_json()
    return document


@pytest.fixture(scope="module")
def outcome(app: Flask, document: dict[str, Any]) -> Outcome:
    """The outcome of about 900 cases, or of SCENESEEK_TEST_CASES."""
    answer = app.test_client().get("/v1/search?q=a+house&k=12").get_json()
    ids = [result["id"] for result in answer["results"]]
    put = []
    for number in range(8):
        with io.BytesIO() as picture:
            Image.new("RGB", (8, 8), (number, 0, 0)).save(picture, "PNG")
            answer = app.test_client().put(f"/v1/images/{number}.png", data=picture.getvalue()).get_json()
        put.append(answer["id"])
    outcome, seed = Outcome(), 1
    check(document, ids, put, outcome, contract(seed, examples=10), app)
    while outcome.cases < CASES and not outcome.failures:
        seed += 1
        # Examples and boundary values of a schema do not depend on the seed.
        check(document, ids, put, outcome, contract(seed, examples=200, phases=PHASES[2:]), app)
    return outcome


def test_responses_conform_to_openapi_document(outcome: Outcome) -> None:
    assert not outcome.failures, "\n\n".join(outcome.failures.values())
    assert outcome.cases > 500


def test_every_operation_succeeds_and_none_returns_server_error(outcome: Outcome, document: dict[str, Any]) -> None:
    successful = {operation for operation, status in outcome.statuses if status < 400}
    assert successful == {f"{method.upper()} {path}" for path, method, _ in operations(document)}
    assert not [status for _, status in outcome.statuses if status >= 500]


def test_openapi_document_and_its_schemas_are_valid(app: Flask, document: dict[str, Any]) -> None:
    schemathesis.openapi.from_wsgi("/openapi.json", app).validate()
    for schema in schemas(document):
        Draft202012Validator.check_schema(schema)


def test_references_resolve(document: dict[str, Any]) -> None:
    references = [value["$ref"] for value in walk(document) if isinstance(value, dict) and "$ref" in value]
    assert len(references) > 20
    for reference in references:
        target: Any = document
        for part in reference.removeprefix("#/").split("/"):
            target = target[part]


def test_operations_and_routes_correspond(app: Flask, document: dict[str, Any]) -> None:
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        if rule.endpoint not in NOT_OPERATIONS
        for method in (rule.methods or set()) & METHODS
    }
    assert {(path, method) for path, method, _ in operations(document)} == routes


def test_operations_have_unique_ids_summaries_and_defined_tags(document: dict[str, Any]) -> None:
    every = [operation for _, _, operation in operations(document)]
    names = [operation["operationId"] for operation in every]
    assert len(names) == len(set(names))
    groups = {tag["name"] for tag in document["tags"]}
    assert all(operation["summary"] and operation["description"] for operation in every)
    assert all(set(operation["tags"]) <= groups for operation in every)


def test_path_parameters_match_path_template(document: dict[str, Any]) -> None:
    for path, _, operation in operations(document):
        named = [each["name"] for each in operation["parameters"] if each["in"] == "path"]
        assert sorted(named) == sorted(re.findall(r"{(\w+)}", path))


def test_responses_have_schemas_and_errors_are_problem_documents(document: dict[str, Any]) -> None:
    for path, method, operation in operations(document):
        for status, answer in operation["responses"].items():
            about = resolved(document, answer)
            assert about["description"], (path, method, status)
            assert all("schema" in resolved(document, header) for header in about.get("headers", {}).values())
            assert all("schema" in content for content in about.get("content", {}).values())
            if int(status) >= 400:
                assert set(about["content"]) == {PROBLEM_MEDIA_TYPE}, (path, method, status)
            elif status != "304":
                assert about["content"], (path, method, status)


def test_examples_validate_against_their_schemas(document: dict[str, Any]) -> None:
    registry: Registry[Any] = Registry().with_resource("", DRAFT202012.create_resource(document))
    checked = 0
    for schema in schemas(document):
        for example in schema.get("examples", ()):
            resolver = registry.resolver("")
            Draft202012Validator(schema, _resolver=resolver, format_checker=FormatChecker()).validate(example)
            checked += 1
    assert checked > 5


def test_links_pass_only_parameters_of_their_target_operation(document: dict[str, Any]) -> None:
    takes = {
        operation["operationId"]: {each["name"] for each in operation["parameters"]}
        for _, _, operation in operations(document)
    }
    links = [
        link
        for _, _, operation in operations(document)
        for answer in operation["responses"].values()
        for link in answer.get("links", {}).values()
    ]
    assert links
    assert all(set(link["parameters"]) <= takes[link["operationId"]] for link in links)


def operations(document: dict[str, Any]) -> list[tuple[str, str, dict[str, Any]]]:
    return [(path, method, each) for path, methods in document["paths"].items() for method, each in methods.items()]


def resolved(document: dict[str, Any], value: dict[str, Any]) -> dict[str, Any]:
    while "$ref" in value:
        target: Any = document
        for part in value["$ref"].removeprefix("#/").split("/"):
            target = target[part]
        value = target
    return value


def walk(value: Any) -> Iterator[Any]:
    yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(part)


def schemas(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Every schema of the document, including nested ones."""
    roots = [*document["components"]["schemas"].values()]
    roots += [value["schema"] for value in walk(document["paths"]) if isinstance(value, dict) and "schema" in value]
    return [schema for root in roots for schema in within(root)]


def within(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    parts = [*schema.get("properties", {}).values(), *schema.get("anyOf", ()), schema.get("items"), schema.get("not")]
    for part in [*parts, schema.get("additionalProperties")]:
        if isinstance(part, dict):
            yield from within(part)
