"""The record of a generation, in the metadata of its collection.

{"sceneseek": {"format": 1, "alias": ..., "state": "begun" | "building" | "published",
               "beside": a generation, "base": a generation, "info": a CollectionInfo}}

`begun` until its payload indexes exist and the copy of its base is complete, `building` until the alias has moved.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from sceneseek.store.base import CollectionInfo, Source

State: TypeAlias = Literal["begun", "building", "published"]
KEY = "sceneseek"
FORMAT = 1


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """The record of a generation.

    Attributes:
        alias: the alias that it belongs to.
        state: see the module.
        beside: the generation that was live when it began.
        base: the generation that it began as a copy of; None if it began empty.
        info: see `CollectionInfo`.
    """

    alias: str
    state: State
    beside: str | None
    base: str | None
    info: CollectionInfo

    def to_metadata(self) -> dict[str, Any]:
        """As the collection's metadata."""
        return {KEY: {"format": FORMAT, **dataclasses.asdict(self)}}

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any] | None) -> GenerationRecord | None:
        """The record in a collection's metadata; None if there is none that this version understands."""
        try:
            raw = (metadata or {})[KEY]
            if raw["format"] != FORMAT:
                return None
            sources = tuple(Source(**source) for source in raw["info"]["sources"])
            known = {field.name for field in dataclasses.fields(CollectionInfo)}
            values = {name: value for name, value in raw["info"].items() if name in known}
            info = CollectionInfo(**{**values, "sources": sources})
            # Older programs also wrote "optimising", and no base.
            state: State = raw["state"] if raw["state"] in ("begun", "published") else "building"
            return cls(raw["alias"], state, raw["beside"], raw.get("base"), info)
        except (KeyError, TypeError, ValueError):
            return None
