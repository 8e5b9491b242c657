"""The generations on a Qdrant server; see `VectorStore`.

A generation NAME is the collection `sceneseek-ALIAS-NAME`; what it records stands in the collection's
metadata (see `record`). The alias is the server's own and is switched in one call.

A process that builds keeps others from it by its record, which names it and is kept fresh; see `record`
for when it counts as gone. The generation that was live before always stays at `publish`, so that queries
under way are answered while servers follow the alias; older ones go, whoever still searches them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from qdrant_client import QdrantClient, models

from sceneseek.errors import IndexUnavailable
from sceneseek.filters import field_path, json_path
from sceneseek.store.base import HEAD, JOINT, Collection, CollectionInfo, FieldType, Point
from sceneseek.store.qdrant.collection import NO_GRAPH, QUERY_PATIENCE, QdrantCollection, held_here
from sceneseek.store.qdrant.connection import Connection, Refusal
from sceneseek.store.qdrant.record import GenerationRecord
from sceneseek.store.qdrant.settings import QdrantSettings

log = logging.getLogger(__name__)

_AliasOperation: TypeAlias = models.CreateAliasOperation | models.RenameAliasOperation | models.DeleteAliasOperation
_COPY_BATCH = 256
_FIELD_TYPES: dict[FieldType, models.PayloadSchemaType] = {
    "keyword": models.PayloadSchemaType.KEYWORD,
    "integer": models.PayloadSchemaType.INTEGER,
    "float": models.PayloadSchemaType.FLOAT,
    "datetime": models.PayloadSchemaType.DATETIME,
    "geo": models.PayloadSchemaType.GEO,
    "bool": models.PayloadSchemaType.BOOL,
}


class QdrantStore:
    """The store of one server and alias. Asks nothing of the server until it must.

    Args:
        url: ``http(s)://host:port``, without credentials.
        settings: see `QdrantSettings`.
        client: an open client to use in place of one that is made here (its in-process mode, in tests).
    """

    def __init__(self, url: str, settings: QdrantSettings, client: QdrantClient | None = None) -> None:
        self.url = url
        self.settings = settings
        self._connection = Connection(url, settings, client)
        self._prefix = f"sceneseek-{settings.alias}-"

    def live(self) -> str | None:
        """See `VectorStore.live`; one small request."""
        target = self._target()
        return target.removeprefix(self._prefix) if target and target.startswith(self._prefix) else None

    def generations(self) -> list[CollectionInfo]:
        """See `VectorStore.generations`."""
        live = self.live()
        return _oldest_first(r for r in self._records() if r.state == "published" or r.info.name == live)

    def unfinished(self) -> list[CollectionInfo]:
        """See `VectorStore.unfinished`."""
        live = self.live()
        return _oldest_first(
            r for r in self._records() if r.state != "published" and r.info.name != live and r.beside == live
        )

    def building(self) -> bool:
        """See `VectorStore.building`: whether a record that is kept fresh says so."""
        return any(
            record.builder_lives(held_here(self.url, self._prefix + record.info.name))
            for record in self._records()
            if record.state != "published"
        )

    def create(self, info: CollectionInfo, base: str | None = None) -> QdrantCollection:
        """See `VectorStore.create`; a copy of `base` goes by way of this process, batch by batch."""
        self._check_alias_is_ours()
        self._sweep()
        name, beside = self._prefix + info.name, self.live()
        collection = QdrantCollection(info, name, self._connection, building=True, beside=beside)
        try:
            self._create_collection(name, GenerationRecord.now(self.settings.alias, "building", beside, info))
            if base is not None:
                self._copy(self.open(base), collection)
        except BaseException:
            collection.close()
            with contextlib.suppress(IndexUnavailable):
                self._remove(info.name, patience=0.0)
            raise
        return collection

    def resume(self, name: str) -> QdrantCollection:
        """See `VectorStore.resume`."""
        record = self._record(self._prefix + name)
        if record is None or record.state == "published" or name == self.live():
            raise IndexUnavailable(f"the index {self.url} has lost its unfinished {name}", "index again")
        self._sweep(name)
        collection = QdrantCollection(
            record.info, self._prefix + name, self._connection, building=True, beside=record.beside
        )
        collection.mark("building")
        return collection

    def open(self, name: str) -> QdrantCollection:
        """See `VectorStore.open`."""
        record = self._record(self._prefix + name)
        if record is None or (record.state != "published" and name != self.live()):
            raise IndexUnavailable(f"the index {self.url} has lost its generation {name}", "index the folder again")
        return QdrantCollection(record.info, self._prefix + name, self._connection)

    def publish(self, collection: Collection, skipped: Mapping[str, int] | None = None) -> None:
        """See `VectorStore.publish`; older generations go, also those that somebody still searches."""
        info, previous = collection.info.completed(skipped), self.live()
        name = self._prefix + info.name
        self._point_alias(name, replacing=previous is not None)
        QdrantCollection(info, name, self._connection, beside=previous).mark("published")
        collection.close()
        if previous == info.name:  # another process has resumed and published it: what was before is not known
            return
        for other in self.generations():
            if other.name not in (info.name, previous):
                try:
                    self._remove(other.name)
                except IndexUnavailable as error:
                    log.warning("the old generation %s stays for now: %s", other.name, error)

    def switch(self, name: str) -> None:
        """See `VectorStore.switch`."""
        self.open(name).close()
        self._point_alias(self._prefix + name, replacing=self.live() is not None)

    def size(self, name: str) -> int:
        """See `VectorStore.size`."""
        collection = self.open(name)
        try:
            return collection.count()
        finally:
            collection.close()

    def discard(self, collection: Collection) -> None:
        """See `VectorStore.discard`."""
        collection.close()
        self._remove(collection.info.name)

    def close(self) -> None:
        """Let go of the server."""
        self._connection.close()

    def _point_alias(self, collection_name: str, replacing: bool) -> None:
        """In one request, so that nobody finds no collection or two."""
        alias = self.settings.alias
        new = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=collection_name, alias_name=alias)
        )
        old = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
        operations: list[_AliasOperation] = [old, new] if replacing else [new]
        self._connection.call(lambda client: client.update_collection_aliases(operations))

    def _target(self) -> str | None:
        """The collection that the alias points at."""
        aliases = self._connection.call(lambda client: client.get_aliases(), QUERY_PATIENCE).aliases
        return next((a.collection_name for a in aliases if a.alias_name == self.settings.alias), None)

    def _names(self) -> list[str]:
        found = self._connection.call(lambda client: client.get_collections())
        return [collection.name for collection in found.collections]

    def _record(self, name: str) -> GenerationRecord | None:
        """What a collection records of itself; None if it is gone, or not a generation of this alias."""
        try:
            found = self._connection.call(lambda client: client.get_collection(name))
        except Refusal as error:
            if error.failure.kind == "missing":
                return None
            raise
        record = GenerationRecord.from_metadata(found.config.metadata)
        return record if record is not None and record.alias == self.settings.alias else None

    def _records(self) -> list[GenerationRecord]:
        records = [self._record(name) for name in self._names() if name.startswith(self._prefix)]
        return [record for record in records if record is not None]

    def _sweep(self, spare: str = "") -> None:
        """Tidy up after killed runs.

        Raises:
            IndexUnavailable: a process that lives is building.
        """
        live, rubbish = self.live(), []
        for record in self._records():
            name = record.info.name
            if record.state == "published":
                continue
            if name == live:  # killed between the switch and the word of it
                QdrantCollection(record.info, self._prefix + name, self._connection, beside=record.beside).mark(
                    "published"
                )
            elif record.builder_lives(held_here(self.url, self._prefix + name)):
                raise IndexUnavailable(
                    f"the index {self.url} is being written by process {record.pid} on {record.host}",
                    "wait until that run has ended, or choose another SCENESEEK_QDRANT_ALIAS",
                )
            elif name != spare:
                rubbish.append(name)
        for name in rubbish:
            self._remove(name)

    def _check_alias_is_ours(self) -> None:
        """Before hours of work: at its end the alias must be there for the taking."""
        alias, target = self.settings.alias, self._target()
        foreign = target is not None and not target.startswith(self._prefix)
        if foreign or alias in self._names():
            what = f"an alias of the collection {target}" if foreign else "a collection"
            raise IndexUnavailable(
                f"on the Qdrant server at {self.url} the name {alias} is {what} that is not sceneseek's",
                "set SCENESEEK_QDRANT_ALIAS to another name",
            )

    def _create_collection(self, name: str, record: GenerationRecord) -> None:
        settings, info = self.settings, record.info
        vectors = {JOINT: models.VectorParams(size=info.joint, distance=models.Distance.COSINE, hnsw_config=NO_GRAPH)}
        if info.head:
            vectors[HEAD] = models.VectorParams(
                size=info.head,
                distance=models.Distance.DOT,
                hnsw_config=NO_GRAPH,
                on_disk=True,
                datatype=models.Datatype.FLOAT16,
            )
        try:
            self._connection.call(
                lambda client: client.create_collection(
                    name,
                    vectors_config=vectors,
                    shard_number=settings.shards or None,
                    replication_factor=settings.replicas or None,
                    write_consistency_factor=settings.write_consistency or None,
                    metadata=record.to_metadata(),
                )
            )
        except Refusal as error:
            # The first try may have reached the server although its answer was lost.
            ours = self._record(name) if error.failure.kind == "exists" else None
            if ours is None or (ours.info, ours.host, ours.pid) != (info, record.host, record.pid):
                raise
        if self._connection.in_process:  # it has none, and warns when asked for one
            return
        for field, kind in info.indexed.items():
            self._create_index(name, json_path(field_path(field)), _FIELD_TYPES[kind])

    def _create_index(self, name: str, key: str, schema: models.PayloadSchemaType) -> None:
        self._connection.call(lambda client: client.create_payload_index(name, key, schema, wait=True))

    def _copy(self, source: QdrantCollection, target: QdrantCollection) -> None:
        batch: dict[str, dict[str, object]] = {}
        for record in source.scroll(_COPY_BATCH):
            batch[record.id] = record.payload
            if len(batch) == _COPY_BATCH:
                self._copy_batch(source, target, batch)
                batch = {}
        self._copy_batch(source, target, batch)

    def _copy_batch(
        self, source: QdrantCollection, target: QdrantCollection, batch: dict[str, dict[str, object]]
    ) -> None:
        rows = source.vectors(list(batch))
        target.upsert([Point(identity, joint, head, batch[identity]) for identity, (joint, head) in rows.items()])

    def _remove(self, name: str, patience: float | None = None) -> None:
        try:
            self._connection.call(lambda client: client.delete_collection(self._prefix + name), patience)
        except Refusal as error:
            if error.failure.kind != "missing":
                raise


def _oldest_first(records: Iterable[GenerationRecord]) -> list[CollectionInfo]:
    return sorted((record.info for record in records), key=lambda info: (info.created, info.name))
