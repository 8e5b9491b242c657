"""One request and its answer, as far as they are observed: noted while it is answered, told once it is.

What a person searches for is theirs: neither the query nor any header of the client's is in here, but for the
request's id.
"""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field

# So that it can stand in a header, in a log and on a command line as it is.
_ID = re.compile(r"[A-Za-z0-9._:-]{1,64}", re.ASCII)
UNMATCHED = "unmatched"


@dataclass(slots=True)
class Exchange:
    """A request and its answer.

    Attributes:
        id: the client's own, from `X-Request-ID`, or one that was made up.
        method: the request's.
        started: `time.perf_counter` when it came.
        route: the template of its address, such as ``/v1/images/<uuid:image_id>``.
        status: of the answer; 500 until there is one.
        seconds: until the answer began to be sent.
        size: bytes of the answer's body; None where that is not known beforehand.
        stages: milliseconds by stage.
        problem: the kind of the problem that is the answer; empty where it is none.
        caller: whose key the request came with; empty where it came with none.
    """

    id: str
    method: str
    started: float = field(default_factory=time.perf_counter)
    route: str = UNMATCHED
    status: int = 500
    seconds: float = 0.0
    size: int | None = None
    stages: dict[str, float] = field(default_factory=dict)
    problem: str = ""
    caller: str = ""

    def stop(self) -> None:
        """The answer begins to be sent."""
        self.seconds = time.perf_counter() - self.started

    def server_timing(self) -> str:
        """As a `Server-Timing` header has it."""
        stages = "".join(f"{stage};dur={ms:.2f}, " for stage, ms in self.stages.items())
        return f"{stages}total;dur={self.seconds * 1e3:.2f}"


current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)
"""The one that is being answered in this context."""


def accepted_id(given: str | None) -> str:
    """A client's id if it is a token of at most 64 safe characters, else a new one."""
    return given if given and _ID.fullmatch(given) else secrets.token_hex(8)


def request_id() -> str | None:
    """The id of the request that is being answered; None outside of one."""
    exchange = current.get()
    return None if exchange is None else exchange.id


def record_stages(timings: Mapping[str, float]) -> None:
    """Note how long the stages of the request that is being answered took.

    They go into the answer's `Server-Timing` header, the metrics and the request's line in the log. Called
    again for the same request, as for each query of many, it adds.

    Args:
        timings: milliseconds by stage, whose names are a few of our own; ``total`` is left out, since
            the whole request is timed anyhow.
    """
    exchange = current.get()
    if exchange is not None:
        for stage, milliseconds in timings.items():
            if stage != "total":
                exchange.stages[stage] = exchange.stages.get(stage, 0.0) + milliseconds


def note_problem(kind: str, status: int) -> None:
    """Note that the answer is a problem: of a kind, or without one known by its status only."""
    exchange = current.get()
    if exchange is not None:
        exchange.problem = kind or f"http-{status}"
