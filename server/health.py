"""`/healthz`: the process is alive. `/readyz`: it can answer, and what it answers from."""

from __future__ import annotations

import logging
from typing import Literal

from flask import Blueprint, Response
from typing_extensions import TypedDict  # pydantic asks for it below Python 3.12

from sceneseek.runtime import Placement, runtime_version
from sceneseek.search import Search
from server.answer import json_answer
from server.api.operation import operation
from server.errors import problem_response
from server.problem import Problem

log = logging.getLogger(__name__)


class Health(TypedDict):
    """That the process lives."""

    status: Literal["alive"]


class Runtime(TypedDict):
    """Where the text graph runs: asked for, and taken, and why; `provider` is ONNX Runtime's name of it."""

    asked: str
    device: str
    provider: str
    why: str
    onnxruntime: str


class Readiness(TypedDict):
    """What the service answers from.

    `following` says whether the thread that watches the alias is alive; `problem` is why the generation
    that the alias points at is not followed, while the one named here goes on answering.
    """

    pack: str
    fingerprints: dict[str, str]
    generation: str
    images: int
    following: bool
    problem: str | None
    runtime: Runtime


class Ready(Readiness):
    """That the service answers, and what from."""

    status: Literal["ready"]


def health_blueprint(search: Search) -> Blueprint:
    """The views over one pipeline."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    @operation(summary="Whether the process lives", tag="service", answer=Health)
    def alive() -> Response:
        """It answers as long as it lives, whatever becomes of the index."""
        return json_answer({"status": "alive"})

    @blueprint.get("/readyz")
    @operation(
        summary="Whether searches can be answered",
        tag="service",
        answer=Ready,
        problems={503: "Searches cannot be answered, or a new generation would not be followed."},
    )
    def ready() -> Response:
        """What the service answers from, once it can."""
        try:
            state = _readiness(search)
        except Exception:  # whatever keeps the engine from counting keeps it from searching
            log.exception("the index does not answer")
            return problem_response(Problem(503, "the index does not answer", "see the log of the service"))
        if not state["following"]:
            stalled = "a new generation would not be followed: the thread that watches the index has died"
            return problem_response(Problem(503, stalled, "restart the service", more={**state}))
        return json_answer({"status": "ready", **state})

    return blueprint


def _readiness(search: Search) -> Readiness:
    with search.live.borrow() as pair:
        manifest, placement = pair.companion.bundle.manifest, pair.companion.encoder.placement
        generation, images = pair.collection.info.name, pair.collection.count()
    return {
        "pack": manifest.pack,
        "fingerprints": manifest.fingerprints.model_dump(),
        "generation": generation,
        "images": images,
        "following": search.live.watching(),
        "problem": search.live.problem,
        "runtime": _runtime(placement),
    }


def _runtime(placement: Placement) -> Runtime:
    return {
        "asked": placement.asked,
        "device": placement.device,
        "provider": placement.provider,
        "why": placement.why,
        "onnxruntime": runtime_version(),
    }
