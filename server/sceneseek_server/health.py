"""For operators: `/healthz`, the process is alive; `/readyz`, it can answer, and from what; `/metrics`."""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from cachetools import TTLCache, cached
from flask import Blueprint, Response, request
from prometheus_client.exposition import choose_encoder
from typing_extensions import TypedDict  # pydantic asks for it below Python 3.12

from sceneseek.api import Readiness, Runtime
from sceneseek.errors import IndexUnavailable, NothingIndexed, SceneseekError, one_line
from sceneseek.next_step import STACK_INDEX_COMMAND
from sceneseek.runtime import Placement
from sceneseek.runtime_installation import runtime_version
from sceneseek.search import Search
from sceneseek.sources import Root, holds_files, parse_root
from sceneseek.store import CollectionInfo
from sceneseek.tables import first_few
from sceneseek_server.access.control import key_file_problem, shows_paths
from sceneseek_server.api.openapi import operation
from sceneseek_server.metrics import Metrics
from sceneseek_server.responses import deadline, error_response, json_answer, problem, problem_response

log = logging.getLogger(__name__)


class FirstStep(TypedDict):
    """What the problem document of `/readyz` has too while nothing is indexed yet.

    `command` indexes a folder DIR, typed where the service runs; where paths are hidden BUNDLE and INDEX stand for
    settings of the service. `stack_command` is that of the Docker stack, where the service may be one of it. `building`
    says whether a folder is being indexed.
    """

    command: str
    stack_command: str | None
    building: bool


class AliveDocument(TypedDict):
    """What `/healthz` answers."""

    status: Literal["alive"]


def health_blueprint(search: Search, metrics: Metrics) -> Blueprint:
    """The views over one pipeline and its metrics."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    @operation(summary="Whether the process lives", tag="service", answer=AliveDocument)
    def alive() -> Response:
        """Nothing more: `/readyz` says whether a search would be answered."""
        return json_answer({"status": "alive"})

    @blueprint.get("/readyz")
    @operation(
        summary="Whether it can answer, and what from",
        tag="service",
        answer=Readiness,
        problems={
            503: "It cannot; `detail` says why. While nothing is indexed yet (`urn:sceneseek:problem:nothing-indexed`) "
            "`command` or `stack_command` (Docker) indexes a folder; `building` says whether one is being indexed."
        },
    )
    def ready() -> Response:
        """The generation and the bundle that answer, and where the models run."""
        try:
            state = _readiness(search)
        except NothingIndexed as error:
            return error_response(error, **_first_step(search, error))
        except IndexUnavailable as error:
            if error.retry_after is None:  # else its store logs the outage
                log.error("the index does not answer: %s", error)
            return error_response(error)
        except Exception:  # an engine that cannot count cannot search
            log.exception("the index does not answer")
            return problem_response(problem(503, "the index does not answer", "see the log of the service"))
        if not state.following:
            stalled = "a new generation would not be followed: the thread that watches the index has died"
            return problem_response(problem(503, stalled, "restart the service"), **_without_status(state))
        lost = search.encoder.problem()
        if lost is not None:
            return problem_response(problem(503, lost, "restart the service if it stays so"), **_without_status(state))
        return json_answer(state)

    @blueprint.get("/metrics")
    @operation(summary="Figures for Prometheus", tag="service", answer=("text/plain", "application/openmetrics-text"))
    def exposed() -> Response:
        """In the text format, or in OpenMetrics where that is asked for; docs/reference/observability.md names them."""
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        response = Response(encode(metrics), content_type=content_type)
        response.headers["Cache-Control"] = "no-store"
        return response

    return blueprint


def _readiness(search: Search) -> Readiness:
    with search.follower.borrow() as snapshot:
        manifest, placement = snapshot.models.bundle.manifest, snapshot.models.encoder.placement
        texts_mix = snapshot.models.texts_mix
        info, images = snapshot.collection.info, snapshot.collection.count(deadline())
    return Readiness(
        status="ready",
        pack=manifest.pack,
        multilingual=manifest.multilingual,
        fingerprints=asdict(manifest.fingerprints),
        generation=info.name,
        images=images,
        following=search.follower.watching(),
        problem=_problem(search, info),
        runtime=_runtime(placement, texts_mix),
    )


def _without_status(state: Readiness) -> dict[str, Any]:
    """The members of a problem document, whose `status` is that of HTTP."""
    return {name: value for name, value in asdict(state).items() if name != "status"}


def _first_step(search: Search, error: NothingIndexed) -> FirstStep:
    """The command to index a folder, with this service's own settings where these may be shown."""
    shown, local = shows_paths(), search.store.url.startswith("file:")
    return {
        "command": error.command if shown else error.public_command,
        # A service cannot tell that it is in a container; but the stack's index is no directory.
        "stack_command": None if shown and local else STACK_INDEX_COMMAND,
        "building": _building(search),
    }


def _building(search: Search) -> bool:
    """Whether the first generation is being written."""
    try:
        return search.store.building()
    except (OSError, SceneseekError):
        return False


def _problem(search: Search, info: CollectionInfo) -> str | None:
    """What is wrong although searches are answered; in words that may name files only where these are shown.

    It is the index that is not followed, the keys that are not, or pictures that are not where they were indexed.
    """
    of_index = search.follower.problem
    if of_index is not None and not shows_paths():
        of_index = "the live generation or the bundle cannot be followed: the log of the service says why"
    return "; ".join(filter(None, (of_index, key_file_problem(), _sources_problem(info)))) or None


def _sources_problem(info: CollectionInfo) -> str | None:
    """Which source folders are gone or empty, such as one that was moved or is not mounted."""
    gone = [source.folder for source in info.sources if not _holds_files(source.folder)]
    if not gone:
        return None
    which = first_few(gone) if shows_paths() else f"{len(gone)} of {len(info.sources)} source folders"
    return f"originals and thumbnails are missing: nothing is found in {one_line(which)}: bring it back, or index anew"


def _holds_files(folder: str) -> bool:
    root = parse_root(folder)
    return holds_files(root) if isinstance(root, Path) else _holds_objects(root)


@cached(TTLCache(maxsize=64, ttl=60), lock=threading.Lock())
def _holds_objects(root: Root) -> bool:
    """As `holds_files`, and asked once a minute: a store charges for its answers, and may take seconds to fail."""
    return holds_files(root)


def _runtime(placement: Placement, texts_mix: bool) -> Runtime:
    return Runtime(
        asked=placement.asked,
        device=placement.device,
        provider=placement.provider,
        # The runtime's message may contain paths of its files.
        why=placement.why if shows_paths() or "/" not in placement.why else "the log of the service says why",
        onnxruntime=runtime_version(),
        texts_together=not texts_mix,
    )
