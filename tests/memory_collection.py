"""An in-memory `Collection` that can fail at any of its changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sceneseek.filters.conditions import Filter
from sceneseek.store import CollectionInfo, Point, Record, StoredVectors
from sceneseek.vectors import Candidates, Floats


class Killed(Exception):
    """Stands in for the kill of a process."""


class MemoryCollection:
    """Points by id; after `lives` changes, the next one raises `Killed`."""

    def __init__(self, info: CollectionInfo) -> None:
        self.info = info
        self.points: dict[str, Point] = {}
        self.lives: int | None = None

    def upsert(self, points: Sequence[Point]) -> None:
        self._live()
        self.points.update({point.id: point for point in points})

    def delete(self, ids: Sequence[str]) -> None:
        self._live()
        for identity in ids:
            self.points.pop(identity, None)

    def nearest(
        self,
        joint: Floats,
        limit: int,
        vectors: Sequence[str] = (),
        exact: bool = False,
        where: Filter | None = None,
        deadline: float | None = None,
    ) -> Candidates:
        raise NotImplementedError

    def retrieve(self, ids: Sequence[str], deadline: float | None = None) -> list[Record]:  # noqa: ARG002 - it answers at once
        return [Record(i, dict(self.points[i].payload)) for i in ids if i in self.points]

    def vectors(self, ids: Sequence[str], deadline: float | None = None) -> dict[str, StoredVectors]:  # noqa: ARG002 - it answers at once
        return {i: StoredVectors(self.points[i].joint, self.points[i].head) for i in ids if i in self.points}

    def scroll(self, batch: int = 1024, deadline: float | None = None) -> Iterator[Record]:
        del batch, deadline
        yield from [Record(point.id, dict(point.payload)) for point in self.points.values()]

    def set_payload(self, changes: Mapping[str, Mapping[str, Any]]) -> None:
        self._live()
        for identity, fields in changes.items():
            payload = {**self.points[identity].payload, **fields}
            kept = {name: value for name, value in payload.items() if value is not None}
            self.points[identity] = replace(self.points[identity], payload=kept)

    def count(self, deadline: float | None = None) -> int:  # noqa: ARG002 - it answers at once
        return len(self.points)

    def optimize(self) -> None:
        """Nothing to build."""

    def close(self) -> None:
        """Nothing to release."""

    def _live(self) -> None:
        if self.lives is not None:
            self.lives -= 1
            if self.lives < 0:
                raise Killed
