"""What a generation writes of itself into its collection's metadata.

{"sceneseek": {"format": 1, "alias": ..., "state": "building" | "optimising" | "published",
               "host": ..., "pid": ..., "touched": ISO 8601, "info": a CollectionInfo}}
"""

from __future__ import annotations

import dataclasses
import os
import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, TypeAlias

from sceneseek.store.base import CollectionInfo, Source

State: TypeAlias = Literal["building", "optimising", "published"]
KEY = "sceneseek"
FORMAT = 1
# A builder on another machine counts as gone when it has not written for so long. It writes every half minute;
# while the server builds the graph it does not, since an update could have the server begin anew.
_SILENCE = {"building": timedelta(minutes=5), "optimising": timedelta(hours=1)}
# On this machine the process is looked for; its number may be another's by then.
_LONGEST = timedelta(hours=24)


@dataclass(frozen=True, slots=True)
class GenerationRecord:
    """A generation's state, and who brought it there when."""

    alias: str
    state: State
    beside: str | None
    info: CollectionInfo
    host: str
    pid: int
    touched: datetime

    @classmethod
    def now(cls, alias: str, state: State, beside: str | None, info: CollectionInfo) -> GenerationRecord:
        """The record that this process writes now."""
        return cls(alias, state, beside, info, socket.gethostname(), os.getpid(), datetime.now(UTC))

    def to_metadata(self) -> dict[str, Any]:
        """As the collection's metadata."""
        return {
            KEY: {
                "format": FORMAT,
                "alias": self.alias,
                "state": self.state,
                "beside": self.beside,
                "host": self.host,
                "pid": self.pid,
                "touched": self.touched.isoformat(),
                "info": dataclasses.asdict(self.info),
            }
        }

    @classmethod
    def from_metadata(cls, metadata: dict[str, Any] | None) -> GenerationRecord | None:
        """The record in a collection's metadata; None where there is none that this version understands."""
        try:
            raw = (metadata or {})[KEY]
            if raw["format"] != FORMAT:
                return None
            sources = tuple(Source(**source) for source in raw["info"]["sources"])
            known = {field.name for field in dataclasses.fields(CollectionInfo)}
            told = {name: value for name, value in raw["info"].items() if name in known}
            info = CollectionInfo(**{**told, "sources": sources})
            touched = datetime.fromisoformat(raw["touched"])
            return cls(raw["alias"], raw["state"], raw["beside"], info, raw["host"], raw["pid"], touched)
        except (KeyError, TypeError, ValueError):
            return None

    def builder_lives(self, held_here: bool) -> bool:
        """Whether somebody is building this, or may be.

        Args:
            held_here: whether this process is.
        """
        if self.state == "published" or held_here:
            return held_here
        silence = datetime.now(UTC) - self.touched
        if self.host != socket.gethostname():
            return silence < _SILENCE[self.state]
        return self.pid != os.getpid() and _runs(self.pid) and silence < _LONGEST


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
