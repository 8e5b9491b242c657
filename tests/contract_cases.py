"""Cases made from an OpenAPI document, and answers checked against it.

schemathesis makes the cases: examples, every boundary that a schema has, random ones that satisfy it and random ones
that break it, and sequences along the links from one operation to the next. What it cannot know is added here: ids
that are in the index, conditions in short words, and pictures, of which some are broken.

A service fails by an answer with a status, media type, header or body that the document does not have; by a status of
5xx, save a 503 that says when to come again; by refusing what satisfies the document, or answering what breaks it.
JSON Schema cannot say everything, so `_INEXPRESSIBLE` names the refusals that are right all the same.
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
from schemathesis.config._checks import NegativeDataRejectionConfig  # the one kind that is not named in the package
from schemathesis.core.failures import AcceptedNegativeData, Failure, ServerError
from schemathesis.engine import events, from_schema
from schemathesis.openapi.checks import RejectedPositiveData

PHASES = ("examples", "coverage", "fuzzing", "stateful")

# Details of refusals, by how they begin, and why the document does not rule such requests out.
_INEXPRESSIBLE = {
    "the field q is missing": "a query string cannot say that one of two of its parameters must be there",
    "there are two images to search by": "of two parameters, not both",
    "min_score is given without a text": "a parameter that needs another one",
    "the filter asks for a path or folder": "which fields a service hides",
    "the filter is nested deeper": "the depth of a recursive schema",
    "the filter has ": "a count over a whole tree",
    "the query contains the control character": "escaped surrogates, which are in no well-formed text",
}
# The same of a condition, by how they end: a box's sides beside each other, and the calendar.
_INEXPRESSIBLE_OF_A_CONDITION = ("has its north below its south", "which is no ISO 8601 date")
# What is there, and what came before, is not the document's to say.
_ACCEPTED = ["2xx", "3xx", "401", "403", "404", "409", "412", "414", "422", "428", "429", "503"]
_REFUSED = ["400", "401", "403", "404", "405", "409", "412", "413", "414", "415", "422", "428", "429", "431", "503"]
_ID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_WORDS = (
    *("format=JPEG", "width>=300", "height<5000", "path^=animals", "tags!=a|b", "taken<=2024-05", "place@48,2,5km"),
    *('"f.number"="2.8"', '{"field": "width", "gt": 10}', "indexed_at>2020", "place@49,2..48,3"),
)


@dataclass
class Outcome:
    """The outcome of a run.

    Attributes:
        statuses: how many cases each operation answered with each status.
        failures: what broke the contract, once each: a report with the request as a command.
    """

    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    failures: dict[str, str] = field(default_factory=dict)

    @property
    def cases(self) -> int:
        """How many were answered."""
        return self.statuses.total()


def contract(seed: int, examples: int, phases: Sequence[str] = PHASES) -> SchemathesisConfig:
    """The settings of a run.

    Args:
        seed: the same cases for the same seed, document and ids.
        examples: random cases of an operation; a quarter as many sequences of operations, which are long.
        phases: which of schemathesis' kinds of cases.
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
    put: Sequence[str],
    outcome: Outcome,
    settings: SchemathesisConfig,
    app: Any,
) -> None:
    """Run a document's cases and add what comes of them.

    Args:
        document: the OpenAPI document.
        ids: of images that are in the index; there must be one.
        put: of images that may be deleted; there must be one.
        outcome: what the results are added to.
        settings: see `contract`.
        app: the WSGI application.
    """
    # Not loaded from its address, which would leave the operation that is there out.
    schema = schemathesis.openapi.from_dict(copy.deepcopy(document), config=settings)  # it adds links of its own
    schema.app = app
    _know(schema, ids, put)
    for event in from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            _add(event, outcome)
        elif isinstance(event, events.NonFatalError):
            outcome.failures[f"{event.label}: {event.value}"] = event.info.format()
        elif isinstance(event, events.FatalError):
            raise event.exception


def _said(response: Any) -> str:
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
                said = f"{operation}: {check.name}: {info.failure.title}\n{info.failure.message}"
                answer = event.recorder.find_response(case_id=case_id)
                shown = f"{said}\n{info.code_sample}\n{_said(answer) if answer else 'no answer'}"
                outcome.failures.setdefault(said.partition("\n\n")[0], shown)


def _know(schema: BaseSchema, ids: Sequence[str], put: Sequence[str]) -> None:
    """Tell schemathesis what it cannot know."""
    for name, pictures in _pictures().items():
        schemathesis.openapi.media_type(name, pictures)

    @schema.hook
    def map_case(context: Any, case: Any) -> Any:
        query, body = case.query, _with_lists(case.body, case.operation)
        if query and case.operation.path == "/v1/search" and "image" not in query:
            query = {"q": "a dog", **query}
        for part, value in (("path_parameters", case.path_parameters), ("query", query), ("body", body)):
            # Only where it changes: schemathesis judges anew whether what was put in satisfies the document.
            if (known := _with_ids(value, put if case.method == "DELETE" else ids)) != getattr(case, part):
                setattr(case, part, known)
        return case

    @schema.hook
    def filter_failure(context: Any, failure: Failure, case: Any, response: Any) -> bool:
        return not _right_all_the_same(failure, case, response)


def _with_lists(body: Any, operation: Any) -> Any:
    """With a picture alone where several may be put into a list: only so is it sent as a file."""
    content = operation.definition.raw.get("requestBody", {}).get("content", {})
    fields = content.get("multipart/form-data", {}).get("schema", {}).get("properties", {})
    if not isinstance(body, dict):
        return body
    several = {name for name, about in fields.items() if about.get("type") == "array"}
    return {key: [part] if key in several and isinstance(part, bytes) else part for key, part in body.items()}


def _with_ids(value: Any, ids: Sequence[str]) -> Any:
    """With every second id put in place by that of an image, and every second word of a filter by one that reads."""
    if isinstance(value, dict):
        known = {key: _with_ids(part, ids) for key, part in value.items()}
        if isinstance(words := value.get("filter"), list):
            known["filter"] = [_word(word) for word in words]
        return known
    if isinstance(value, list):
        return [_with_ids(part, ids) for part in value]
    if isinstance(value, str) and _ID.fullmatch(value) and (number := UUID(value).int) % 2:
        return ids[number // 2 % len(ids)]
    return value


def _word(word: Any) -> Any:
    return _WORDS[len(word) // 2 % len(_WORDS)] if isinstance(word, str) and len(word) % 2 else word


def _right_all_the_same(failure: Failure, case: Any, response: Any) -> bool:
    if failure.title == "Allow header mismatch" and case.operation.path == "/v1/images/{image}":
        # One template for the paths that pictures are put at and the ids that they have then; the document may not have
        # two that differ in a name alone.
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
        said = re.sub(r"^queries\[\d+\]: ", "", detail)
        if said.startswith(tuple(_INEXPRESSIBLE)) or said.endswith(_INEXPRESSIBLE_OF_A_CONDITION):
            return True
        # Words have a grammar of their own, of which the document says only that there is an operator.
        return said.startswith(("the condition ", "'")) and (_has_words(case.query) or _has_words(case.body))
    if isinstance(failure, AcceptedNegativeData):
        # A field left empty, as forms send them, is not given; a document can only say what a value is. And in a form
        # all is text, and to schemathesis bytes are none, so that it cannot judge one in which something was put in.
        # So is an object without members, of which an address has nothing but the name.
        empty = any(value in ("", {}, []) for name, value in (case.query or {}).items() if name != "q")
        return empty or case.media_type == "multipart/form-data"
    return False


def _has_words(value: Any) -> bool:
    """Whether there is a filter of short words in it."""
    if isinstance(value, dict):
        return any((key == "filter" and isinstance(part, list)) or _has_words(part) for key, part in value.items())
    return isinstance(value, list) and any(map(_has_words, value))


@functools.cache
def _pictures() -> dict[str, st.SearchStrategy[bytes]]:
    """Small files by media type: pictures, pictures cut off, and bytes that are none."""
    kinds = {"image/jpeg": "JPEG", "image/png": "PNG", "image/webp": "WEBP", "image/gif": "GIF"}
    return {name: _picture(kind) for name, kind in kinds.items()}


def _picture(kind: str) -> st.SearchStrategy[bytes]:
    sides, modes = st.integers(1, 40), st.sampled_from(["RGB", "CMYK" if kind == "JPEG" else "RGBA"])
    whole = st.builds(functools.partial(_encoded, kind), modes, sides, sides)
    cut = st.tuples(whole, st.floats(0, 1)).map(lambda drawn: drawn[0][: int(len(drawn[0]) * drawn[1])])
    return st.one_of(whole, whole, whole, cut, st.binary(max_size=64))


def _encoded(kind: str, mode: str, width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new(mode, (width, height)).save(out, kind)
    return out.getvalue()
