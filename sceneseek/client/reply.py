"""What came back from a service, whatever its status."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer.

    Attributes:
        status: the HTTP status.
        content: the whole body.
        media_type: of the body, without its parameters; empty where it is not told.
        location: where a redirect leads to.
        retry_after: in how many seconds it is worth asking again; None where that is not told.
    """

    status: int
    content: bytes = field(repr=False)
    media_type: str = ""
    location: str = ""
    retry_after: float | None = None
