"""Requests generated from an OpenAPI document, and a check of the responses against it.

schemathesis generates the requests: examples, the boundary values of every schema, random valid and invalid ones, and
sequences along the links between operations. This module adds what schemathesis cannot know: ids of indexed images,
filter conditions in short form, and images, some of them broken.

A response fails if the document does not declare its status, media type, header or body, if its status is 5xx (other
than a 503 with Retry-After), if it rejects a valid request, or if it accepts an invalid one. JSON Schema cannot express
every rule, so `_INEXPRESSIBLE` lists the rejections of valid requests that are correct.
"""

from __future__ import annotations

import copy
import functools
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import schemathesis
from hypothesis import strategies as st
from PIL import Image
from schemathesis import BaseSchema
from schemathesis.config import (
    ChecksConfig,
    GenerationConfig,
    NotAServerErrorConfig,
    PhasesConfig,
    PositiveDataAcceptanceConfig,
    ProjectConfig,
    ProjectsConfig,
    SchemathesisConfig,
)
from schemathesis.config._checks import NegativeDataRejectionConfig  # not exported by the package
from schemathesis.core.failures import AcceptedNegativeData, Failure, ServerError
from schemathesis.engine import events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData

PHASES = ("examples", "coverage", "fuzzing", "stateful")

# The first words of a rejection's detail, and what the document cannot express.
_INEXPRESSIBLE = {
    "the field q is missing": "a query string cannot say that one of two of its parameters must be there",
    "there are two images to search by": "of two parameters, not both",
    "min_score is given without a text": "a parameter that needs another one",
    "the filter asks for a path or folder": "which fields a service hides",
    "the filter is nested deeper": "the depth of a recursive schema",
    "the filter has ": "a count over a whole tree",
    "the query contains the control character": "escaped surrogates, which are in no well-formed text",
}
# The last words of a condition's rejection: the order of a box's sides, and the calendar.
_INEXPRESSIBLE_SUFFIXES = ("has its north below its south", "which is not a date such as 2019-05-31 or May 2019")
# The document does not describe state, such as which images exist and which requests came before.
_ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "412", "414", "422", "428", "429", "503"]
_REFUSED = ["400", "401", "403", "404", "405", "409", "412", "413", "414", "415", "422", "428", "429", "431", "503"]
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_CONDITIONS = (
    *("format=JPEG", "width>=300", "height<5000", "path^=animals", "tags!=a|b", "taken<=2024-05", "place@48,2,5km"),
    *('"f.number"="2.8"', '{"field": "width", "gt": 10}', "indexed_at>2020", "place@49,2..48,3"),
)


@dataclass
class Outcome:
    """The outcome of a run.

    Attributes:
        statuses: the number of responses by operation and status.
        failures: a report for each distinct failure, with the request as a command.
    """

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        """The number of responses."""
        return self.statuses.total()


def contract(seed: int, examples: int, phases: Sequence[str] = PHASES) -> SchemathesisConfig:
    """Return the settings of a run.

    Args:
        seed: the same seed, document and ids give the same cases.
        examples: the number of random cases per operation; sequences of operations get a quarter, as they are long.
        phases: the phases of schemathesis to run.
    """
    project = ProjectConfig(
        checks=ChecksConfig(
            not_a_server_error=NotAServerErrorConfig(),
            positive_data_acceptance=PositiveDataAcceptanceConfig(expected_statuses=_ACCEPTED),
            negative_data_rejection=NegativeDataRejectionConfig(expected_statuses=_REFUSED),
        ),
        generation=GenerationConfig(max_examples=examples, database="none", with_security_parameters=False),
        phases=PhasesConfig(),
        continue_on_failure=True,
    )
    project.phases.fuzzing.error_feedback.is_enabled = False
    project.phases.stateful.generation.max_examples = max(2, examples // 4)
    project.phases.update(phases=list(phases))
    return SchemathesisConfig(seed=seed, projects=ProjectsConfig(default=project))


def check(
    document: dict[str, Any],
    ids: Sequence[str],
    deletable: Sequence[str],
    outcome: Outcome,
    settings: SchemathesisConfig,
    app: Any,
) -> None:
    """Run the cases of a document and add the results to `outcome`.

    Args:
        document: the OpenAPI document.
        ids: ids of images in the index; at least one.
        deletable: ids of images that may be deleted; at least one.
        outcome: where the results are added.
        settings: see `contract`.
        app: the WSGI application.
    """
    # Loading from the URL would exclude the operation that serves the document.
    schema = schemathesis.openapi.from_dict(copy.deepcopy(document), config=settings)  # schemathesis adds links to it
    schema.app = app
    _add_hooks(schema, ids, deletable)
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _add(event, outcome)
        elif isinstance(event, events.NonFatalError):
            outcome.failures[f"{event.label}: {event.value}"] = event.info.format()
        elif isinstance(event, events.FatalError):
            raise event.exception


def _summary(response: Any) -> str:
    return f"{response.status_code} {response.content[:300].decode('utf-8', 'replace')}"


def _add(event: events.ScenarioFinished, outcome: Outcome) -> None:
    for case_id, interaction in event.recorder.interactions.items():
        if interaction.response is not None:
            operation = event.recorder.cases[case_id].value.operation.label
            outcome.statuses[operation, interaction.response.status_code] += 1
    for case_id, checks in event.recorder.checks.items():
        for check in checks:
            if (info := check.failure_info) is not None:
                operation = event.recorder.cases[case_id].value.operation.label
                problem = f"{operation}: {check.name}: {info.failure.title}\n{info.failure.message}"
                answer = event.recorder.find_response(case_id=case_id)
                report = f"{problem}\n{info.code_sample}\n{_summary(answer) if answer else 'no answer'}"
                outcome.failures.setdefault(problem.partition("\n\n")[0], report)


def _add_hooks(schema: BaseSchema, ids: Sequence[str], deletable: Sequence[str]) -> None:
    """Add image files, indexed ids and the exceptions to schemathesis' checks."""
    for name, strategy in _image_strategies().items():
        schemathesis.openapi.media_type(name, strategy)

    @schema.hook
    def map_case(context: Any, case: Any) -> Any:
        query, body = case.query, _with_lists(case.body, case.operation)
        if query and case.operation.path == "/v1/search" and "image" not in query:
            query = {"q": "a dog", **query}
        for part, value in (("path_parameters", case.path_parameters), ("query", query), ("body", body)):
            # Assign only changed values: schemathesis validates every assigned value anew.
            if (known := _with_ids(value, deletable if case.method == "DELETE" else ids)) != getattr(case, part):
                setattr(case, part, known)
        return case

    @schema.hook
    def filter_failure(context: Any, failure: Failure, case: Any, response: Any) -> bool:
        return not _is_expected(failure, case, response)


def _with_lists(body: Any, operation: Any) -> Any:
    """Wrap a single image in a list where the field is an array; otherwise it is not sent as a file."""
    content = operation.definition.raw.get("requestBody", {}).get("content", {})
    fields = content.get("multipart/form-data", {}).get("schema", {}).get("properties", {})
    if not isinstance(body, dict):
        return body
    several = {name for name, schema in fields.items() if schema.get("type") == "array"}
    return {key: [part] if key in several and isinstance(part, bytes) else part for key, part in body.items()}


def _with_ids(value: Any, ids: Sequence[str]) -> Any:
    """Replace every second id by that of an image, and every second filter string by a valid condition."""
    if isinstance(value, dict):
        known = {key: _with_ids(part, ids) for key, part in value.items()}
        if isinstance(words := value.get("filter"), list):
            known["filter"] = [_condition(word) for word in words]
        return known
    if isinstance(value, list):
        return [_with_ids(part, ids) for part in value]
    if isinstance(value, str) and _ID.fullmatch(value) and (number := UUID(value).int) % 2:
        return ids[number // 2 % len(ids)]
    return value


def _condition(word: Any) -> Any:
    return _CONDITIONS[len(word) // 2 % len(_CONDITIONS)] if isinstance(word, str) and len(word) % 2 else word


def _is_expected(failure: Failure, case: Any, response: Any) -> bool:
    if failure.title == "Allow header mismatch" and case.operation.path == "/v1/images/{image}":
        # The template stands for both upload paths and image ids: OpenAPI forbids two that differ only in a name.
        return set(", ".join(response.headers.get("allow", ())).split(", ")) < {
            "GET",
            "HEAD",
            "PUT",
            "DELETE",
            "OPTIONS",
        }
    if isinstance(failure, ServerError):
        return response.status_code == 503 and "retry-after" in response.headers
    if isinstance(failure, RejectedPositiveData):
        detail = str(response.json().get("detail", ""))
        message = re.sub(r"^queries\[\d+\]: ", "", detail)
        if message.startswith(tuple(_INEXPRESSIBLE)) or message.endswith(_INEXPRESSIBLE_SUFFIXES):
            return True
        # The document describes only the operator of a short condition, not its grammar.
        return message.startswith(("the condition ", "'")) and (
            _has_short_conditions(case.query) or _has_short_conditions(case.body)
        )
    if isinstance(failure, AcceptedNegativeData):
        # The service ignores an empty field, which forms send, and an empty object, which a query string cannot
        # express. schemathesis cannot validate forms with replaced values, because bytes are not text to it.
        empty = any(value in ("", {}, []) for name, value in (case.query or {}).items() if name != "q")
        return empty or case.media_type == "multipart/form-data"
    return False


def _has_short_conditions(value: Any) -> bool:
    """Return whether a value contains a filter of short conditions."""
    if isinstance(value, dict):
        return any(
            (key == "filter" and isinstance(part, list)) or _has_short_conditions(part) for key, part in value.items()
        )
    return isinstance(value, list) and any(map(_has_short_conditions, value))


@functools.cache
def _image_strategies() -> dict[str, st.SearchStrategy[bytes]]:
    """Return strategies by media type for small files: images, truncated images and random bytes."""
    kinds = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP", "image/gif": "GIF"}
    return {name: _image_strategy(kind) for name, kind in kinds.items()}


def _image_strategy(kind: str) -> st.SearchStrategy[bytes]:
    sides, modes = st.integers(1, 40), st.sampled_from(["RGB", "CMYK" if kind == "JPEG" else "RGBA"])
    whole = st.builds(functools.partial(_encoded, kind), modes, sides, sides)
    cut = st.tuples(whole, st.floats(0, 1)).map(lambda drawn: drawn[0][: int(len(drawn[0]) * drawn[1])])
    return st.one_of(whole, whole, whole, cut, st.binary(max_size=64))


def _encoded(kind: str, mode: str, width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height)).save(out, kind)
    return out.getvalue()
