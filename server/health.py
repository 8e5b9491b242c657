"""`/healthz`: the process is alive. `/readyz`: it can answer, and what it answers from."""

from __future__ import annotations

import logging
from typing import TypedDict

from flask import Blueprint, Response

from sceneseek.runtime import Placement, runtime_version
from sceneseek.search import Search
from server.answer import json_answer
from server.errors import problem_response
from server.problem import Problem

log = logging.getLogger(__name__)


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


def health_blueprint(search: Search) -> Blueprint:
    """The views over one pipeline."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    def alive() -> Response:
        return json_answer({"status": "alive"})

    @blueprint.get("/readyz")
    def ready() -> Response:
        try:
            state = _readiness(search)
        except Exception:  # whatever keeps the engine from counting keeps it from searching
            log.exception("the index does not answer")
            return problem_response(Problem(503, "the index does not answer", "see the log of the service"))
        if not state["following"]:
            stalled = "a new generation would not be followed: the thread that watches the index has died"
            return problem_response(Problem(503, stalled, "restart the service", more={**state}))
        lost = search.encoder.problem()
        if lost is not None:
            return problem_response(Problem(503, lost, "restart the service if it stays so", more={**state}))
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
