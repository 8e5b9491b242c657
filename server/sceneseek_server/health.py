"""Endpoints for operators: `/healthz` (liveness), `/readyz` (readiness and state) and `/metrics`."""

from __future__ import annotations

import logging
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from cachetools import TTLCache, cached
from flask import Blueprint, Response, request
from prometheus_client.exposition import choose_encoder
from typing_extensions import TypedDict  # required by pydantic below Python 3.12

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
from sceneseek_server.responses import deadline, error_response, json_response, problem, problem_response

log = logging.getLogger(__name__)


class FirstStep(TypedDict):
    """Additional members of the problem document of `/readyz` while nothing is indexed.

    `command` indexes a folder DIR on the machine of the service; if paths are hidden, BUNDLE and INDEX stand for its
    settings. `stack_command` is the command of the Docker stack, if the service may be part of it. `building` tells
    whether a folder is being indexed.
    """

    command: str
    stack_command: str | None
    building: bool


class AliveDocument(TypedDict):
    """The response of `/healthz`."""

    status: Literal["alive"]


def health_blueprint(search: Search, metrics: Metrics) -> Blueprint:
    """The views of one pipeline and its metrics."""
    blueprint = Blueprint("health", __name__)

    @blueprint.get("/healthz")
    @operation(summary="Whether the process is alive", tag="service", answer=AliveDocument)
    def alive() -> Response:
        """Liveness only; see `/readyz` for whether searches are answered."""
        return json_response({"status": "alive"})

    @blueprint.get("/readyz")
    @operation(
        summary="Whether searches are answered, and from what",
        tag="service",
        answer=Readiness,
        problems={
            503: "Not ready; `detail` says why. While nothing is indexed (`urn:sceneseek:problem:nothing-indexed`), "
            "`command` or `stack_command` (Docker) indexes a folder; `building` tells whether one is being indexed."
        },
    )
    def ready() -> Response:
        """The live generation, its bundle, and where the models run."""
        try:
            state = _readiness(search)
        except NothingIndexed as error:
            return error_response(error, **_first_step(search, error))
        except IndexUnavailable as error:
            if error.retry_after is None:  # otherwise the store logs the outage
                log.error("the index does not answer: %s", error)
            return error_response(error)
        except Exception:  # an engine that cannot count cannot search
            log.exception("the index does not answer")
            return problem_response(problem(503, "the index does not answer", "see the log of the service"))
        if not state.following:
            stalled = "new generations are not followed: the thread that watches the index has died"
            return problem_response(problem(503, stalled, "restart the service"), **_without_status(state))
        fault = search.encoder.problem()
        if fault is not None:
            return problem_response(problem(503, fault, "restart the service if it persists"), **_without_status(state))
        return json_response(state)

    @blueprint.get("/metrics")
    @operation(summary="Metrics for Prometheus", tag="service", answer=("text/plain", "application/openmetrics-text"))
    def exposed() -> Response:
        """In the text format, or in OpenMetrics if requested; explained in docs/reference/observability.md."""
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
    """The members for a problem document, whose `status` is the HTTP status."""
    return {name: value for name, value in asdict(state).items() if name != "status"}


def _first_step(search: Search, error: NothingIndexed) -> FirstStep:
    """The command to index a folder, with this service's settings if these may be shown."""
    shown, local = shows_paths(), search.store.url.startswith("file:")
    return {
        "command": error.command if shown else error.public_command,
        # A service cannot detect that it runs in a container, but the stack's index is not a directory.
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
    """What is wrong although searches are answered; None if nothing is. Names files only if paths are shown.

    The index or the keys cannot be reloaded, or source folders are missing.
    """
    index_problem = search.follower.problem
    if index_problem is not None and not shows_paths():
        index_problem = "the live generation or the bundle cannot be followed: see the log of the service"
    return "; ".join(filter(None, (index_problem, key_file_problem(), _sources_problem(info)))) or None


def _sources_problem(info: CollectionInfo) -> str | None:
    """The source folders that are missing or empty, for example moved or not mounted; None if there are none."""
    missing = [source.folder for source in info.sources if not _holds_files(source.folder)]
    if not missing:
        return None
    which = first_few(missing) if shows_paths() else f"{len(missing)} of {len(info.sources)} source folders"
    return f"originals and thumbnails are missing: no files in {one_line(which)}: restore it, or index again"


def _holds_files(folder: str) -> bool:
    root = parse_root(folder)
    return holds_files(root) if isinstance(root, Path) else _holds_objects(root)


@cached(TTLCache(maxsize=64, ttl=60), lock=threading.Lock())
def _holds_objects(root: Root) -> bool:
    """Like `holds_files`, cached for a minute: requests to an object store cost money, and may take seconds to fail."""
    return holds_files(root)


def _runtime(placement: Placement, texts_mix: bool) -> Runtime:
    return Runtime(
        asked=placement.asked,
        device=placement.device,
        provider=placement.provider,
        # The runtime's message may contain paths of its files.
        why=placement.why if shows_paths() or "/" not in placement.why else "see the log of the service",
        onnxruntime=runtime_version(),
        texts_together=not texts_mix,
    )
