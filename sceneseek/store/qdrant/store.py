"""The generations on a Qdrant server; see `VectorStore`.

A generation NAME is the collection `sceneseek-ALIAS-NAME`; what it records stands in the collection's
metadata (see `record`). The alias is the server's own and is switched in one call.

Several processes may build at once, each its own generation: names differ and the switch is atomic, so
the last to publish is live and the one before stays for rollback. A generation that its builder left
unfinished (see `GenerationRecord.abandoned`) is listed by `unfinished` and removed by the next `create`.
The generation that was live before always stays, so that queries under way go on being answered while
servers follow the alias; older ones go at `publish`, whoever still searches them.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from qdrant_client import QdrantClient, models

from sceneseek.errors import IndexUnavailable
from sceneseek.filters import field_path, json_path
from sceneseek.store.base import HEAD, JOINT, Collection, CollectionInfo, FieldType, Point
from sceneseek.store.qdrant.collection import NO_GRAPH, QUERY_PATIENCE, QdrantCollection, held_here
from sceneseek.store.qdrant.connection import Connection, Refusal
from sceneseek.store.qdrant.record import GenerationRecord
from sceneseek.store.qdrant.settings import QdrantSettings

log = logging.getLogger(__name__)

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
        return self._infos(lambda record, _: record.state == "published")

    def unfinished(self) -> list[CollectionInfo]:
        """Generations that `create` began, that nobody published, and whose builder is gone; oldest first."""
        return self._infos(lambda record, name: record.abandoned(held_here(name)))

    def create(self, info: CollectionInfo, base: str | None = None) -> QdrantCollection:
        """See `VectorStore.create`; a copy of `base` goes by way of this process, point by point."""
        self._check_alias_is_ours()
        for old in self.unfinished():
            self._remove(old.name)
        name = self._prefix + info.name
        collection = QdrantCollection(info, name, self._connection, building=True)
        try:
            self._create_collection(name, info)
            if base is not None:
                self._copy(self.open(base), collection)
        except BaseException:
            collection.close()
            with contextlib.suppress(IndexUnavailable):
                self._remove(info.name, patience=0.0)
            raise
        return collection

    def resume(self, name: str) -> QdrantCollection:
        """Go on writing to an unfinished generation, which is this process's from now on.

        Raises:
            IndexUnavailable: it is gone, published, or another process builds it.
        """
        collection_name = self._prefix + name
        record = self._record(collection_name)
        if record is None or not record.abandoned(held_here(collection_name)):
            raise IndexUnavailable(
                f"the index {self.url} has no unfinished generation {name}", "run the command again to begin anew"
            )
        collection = QdrantCollection(record.info, collection_name, self._connection, building=True)
        collection.mark("building")
        return collection

    def open(self, name: str) -> QdrantCollection:
        """See `VectorStore.open`."""
        record = self._record(self._prefix + name)
        if record is None or record.state != "published":
            raise IndexUnavailable(f"the index {self.url} has lost its generation {name}", "index the folder again")
        return QdrantCollection(record.info, self._prefix + name, self._connection)

    def publish(self, collection: Collection) -> None:
        """See `VectorStore.publish`; one that somebody still searches goes too, but for the one before."""
        previous = self.live()
        name = self._prefix + collection.info.name
        QdrantCollection(collection.info, name, self._connection).mark("published")
        switch: list[models.CreateAliasOperation | models.RenameAliasOperation | models.DeleteAliasOperation] = []
        if previous is not None:
            switch.append(models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.settings.alias)))
        switch.append(
            models.CreateAliasOperation(
                create_alias=models.CreateAlias(collection_name=name, alias_name=self.settings.alias)
            )
        )
        self._connection.call(lambda client: client.update_collection_aliases(switch))
        collection.close()
        for other in self.generations():
            if other.name not in (collection.info.name, previous):
                try:
                    self._remove(other.name)
                except IndexUnavailable as error:
                    log.warning("the old generation %s stays for now: %s", other.name, error)

    def discard(self, collection: Collection) -> None:
        """See `VectorStore.discard`."""
        collection.close()
        self._remove(collection.info.name)

    def close(self) -> None:
        """Let go of the server."""
        self._connection.close()

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

    def _infos(self, wanted: Callable[[GenerationRecord, str], bool]) -> list[CollectionInfo]:
        found = []
        for name in self._names():
            record = self._record(name) if name.startswith(self._prefix) else None
            if record is not None and wanted(record, name):
                found.append(record.info)
        return sorted(found, key=lambda info: (info.created, info.name))

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

    def _create_collection(self, name: str, info: CollectionInfo) -> None:
        settings = self.settings
        vectors = {JOINT: models.VectorParams(size=info.joint, distance=models.Distance.COSINE, hnsw_config=NO_GRAPH)}
        if info.head:
            vectors[HEAD] = models.VectorParams(
                size=info.head,
                distance=models.Distance.DOT,
                hnsw_config=NO_GRAPH,
                on_disk=True,
                datatype=models.Datatype.FLOAT16,
            )
        record = GenerationRecord.now(settings.alias, "building", info)
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
