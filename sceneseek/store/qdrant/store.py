"""The generations on a Qdrant server; see `VectorStore`.

A generation NAME is the collection `sceneseek-ALIAS-NAME`, whose metadata contains its record. The alias is a Qdrant
alias, which is moved in one request.

One process writes at a time: the holder of the lease (see `lease`). Its requests are idempotent and retried for up to
`QdrantSettings.patience`. Nothing is deleted because a request failed: an unfinished generation is kept for `resume`.
`publish` keeps the previous live generation, so that running queries succeed while servers follow the alias; older
generations are removed, even if they are still searched.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import TypeAlias
from urllib.parse import quote

from qdrant_client import QdrantClient, models

from sceneseek.errors import IndexUnavailable
from sceneseek.filters.conditions import field_path, json_path
from sceneseek.store.base import HEAD, JOINT, Collection, CollectionInfo, FieldType, Point
from sceneseek.store.qdrant.collection import NO_GRAPH, QUERY_PATIENCE, GenerationRecord, QdrantCollection
from sceneseek.store.qdrant.connection import Connection, RequestFailed
from sceneseek.store.qdrant.lease import Lease, collection_name
from sceneseek.store.qdrant.settings import QdrantSettings
from sceneseek.store.vector_cache import DEFAULT_MEGABYTES

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
    """The store of one server and alias. Connects at the first call.

    Args:
        url: ``http(s)://host:port``, without credentials.
        settings: see `QdrantSettings`.
        cache_bytes: size of the vector cache, see `vector_cache`.

    Raises:
        InvalidRequest: the certificate file of the settings contains no certificate.
    """

    def __init__(self, url: str, settings: QdrantSettings, cache_bytes: int = DEFAULT_MEGABYTES * 2**20) -> None:
        self.url = url
        self.settings = settings
        self._cache_bytes = cache_bytes
        self._connection = Connection(url, settings)
        self._lease = Lease(url, settings, self._connection.outage)
        self._writing = False
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
        """See `VectorStore.building`."""
        return self._lease.is_held()

    @contextlib.contextmanager
    def writing(self, wait: bool = True) -> Iterator[None]:
        """See `VectorStore.writing`."""
        assert not self._writing, "this store is being written already"  # noqa: S101 - a bug, not a user's error
        self._writing = True
        try:
            self._check_alias_is_ours()
            with self._lease.held(wait):
                self._note_published()
                yield
        finally:
            self._writing = False

    def create(self, info: CollectionInfo, base: str | None = None, images: int = 0) -> QdrantCollection:  # noqa: ARG002 - the server reports a full disk
        """See `VectorStore.create`; this process copies `base` in batches."""
        self._sweep()
        record = GenerationRecord(self.settings.alias, "begun", self.live(), base, info)
        self._create_collection(record)
        return self._prepared(record, empty=True)

    def resume(self, name: str) -> QdrantCollection:
        """See `VectorStore.resume`."""
        record = self._record(self._prefix + name)
        if record is None or record.state == "published" or name == self.live():
            raise IndexUnavailable(f"the index {self.url} has lost its unfinished {name}", "index again")
        self._sweep(name)
        return self._prepared(record)

    def open(self, name: str, wait: bool = True) -> QdrantCollection:  # noqa: ARG002 - no process holds it
        """See `VectorStore.open`; the number of readers is not limited."""
        record = self._record(self._prefix + name)
        if record is None or (record.state != "published" and name != self.live()):
            raise IndexUnavailable(f"the index {self.url} has lost its generation {name}", "index the folder again")
        return self._collection(record.info, self._cache_bytes)

    def glance(self, name: str) -> QdrantCollection:
        """See `VectorStore.glance`; the same as `open`."""
        return self.open(name)

    def publish(self, collection: Collection, skipped: Mapping[str, int] | None = None) -> None:
        """See `VectorStore.publish`; older generations are removed even if they are still searched."""
        info, previous = collection.info.completed(skipped), self.live()
        self._point_alias(self._prefix + info.name, replacing=previous is not None)
        self._collection(info).mark(GenerationRecord(self.settings.alias, "published", previous, None, info))
        collection.close()
        if previous == info.name:  # an earlier run published it and was killed: its predecessor is unknown
            return
        for other in self.generations():
            if other.name not in (info.name, previous):
                try:
                    self._remove(other.name)
                except IndexUnavailable as error:
                    log.warning("the old generation %s stays until the next run: %s", other.name, error)
                    return

    def switch(self, name: str) -> None:
        """See `VectorStore.switch`."""
        self.open(name).close()
        self._point_alias(self._prefix + name, replacing=self.live() is not None)

    def verify(self, name: str) -> None:
        """See `VectorStore.verify`: the generation exists and the server can count its points."""
        self.size(name)

    def size(self, name: str) -> int:
        """See `VectorStore.size`."""
        collection = self.open(name)
        try:
            return collection.count()
        finally:
            collection.close()

    def report_directory(self) -> None:
        """See `VectorStore.report_directory`."""

    def discard(self, collection: Collection) -> None:
        """See `VectorStore.discard`."""
        collection.close()
        self._remove(collection.info.name)

    def close(self) -> None:
        """Close the connections."""
        self._connection.close()
        self._lease.close()

    def _collection(self, info: CollectionInfo, cache_bytes: int = 0) -> QdrantCollection:
        lease = self._lease if self._writing else None
        return QdrantCollection(info, self._prefix + info.name, self._connection, lease, cache_bytes)

    def _write(self, request: Callable[[QdrantClient], object], confirm: bool = False) -> None:
        """Send a write, checking the lease before each attempt: it may be lost during a long wait."""
        assert self._writing, "call it in a `writing` block"  # noqa: S101 - a bug, not a user's error

        def checked(client: QdrantClient) -> None:
            if confirm:
                self._lease.confirm()
            else:
                self._lease.check()
            request(client)

        self._connection.call(checked)

    def _point_alias(self, collection_name: str, replacing: bool) -> None:
        """Move the alias in one request, right after confirming the lease."""
        alias = self.settings.alias
        new = models.CreateAliasOperation(
            create_alias=models.CreateAlias(collection_name=collection_name, alias_name=alias)
        )
        old = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=alias))
        operations: list[_AliasOperation] = [old, new] if replacing else [new]
        self._write(lambda client: client.update_collection_aliases(operations), confirm=True)

    def _target(self) -> str | None:
        """The collection that the alias points at."""
        patience = None if self._writing else QUERY_PATIENCE
        aliases = self._connection.request("GET", "/aliases", patience=patience)["aliases"]
        return next((a["collection_name"] for a in aliases if a["alias_name"] == self.settings.alias), None)

    def _names(self) -> list[str]:
        found = self._connection.request("GET", "/collections")
        return [collection["name"] for collection in found["collections"]]

    def _record(self, name: str) -> GenerationRecord | None:
        """The record of a collection; None if it is missing or not a generation of this alias."""
        try:
            found = self._connection.request("GET", f"/collections/{quote(name)}")
        except RequestFailed as error:
            if error.failure.kind == "missing":
                return None
            raise
        record = GenerationRecord.from_metadata(found["config"].get("metadata"))
        return record if record is not None and record.alias == self.settings.alias else None

    def _records(self) -> list[GenerationRecord]:
        lease = collection_name(self.settings.alias)
        records = [self._record(name) for name in self._names() if name.startswith(self._prefix) and name != lease]
        return [record for record in records if record is not None]

    def _note_published(self) -> None:
        """Mark the live generation as published if a run was killed after it moved the alias."""
        live = self._target()
        record = self._record(live) if live is not None else None
        if record is not None and record.state != "published":
            self._collection(record.info).mark(replace(record, state="published"))

    def _sweep(self, spare: str = "") -> None:
        """Remove the leftovers of killed or failed runs."""
        for record in self._records():
            if record.state != "published" and record.info.name != spare:
                self._remove(record.info.name)

    def _check_alias_is_ours(self) -> None:
        """Raise early, before hours of work, if something else has the name of the alias."""
        alias, target = self.settings.alias, self._target()
        foreign = target is not None and not target.startswith(self._prefix)
        if foreign or alias in self._names():
            what = f"an alias of the collection {target}" if foreign else "a collection"
            raise IndexUnavailable(
                f"on the Qdrant server at {self.url} the name {alias} is {what} that sceneseek did not create",
                "set SCENESEEK_QDRANT_ALIAS to another name",
            )

    def _create_collection(self, record: GenerationRecord) -> None:
        settings, info, name = self.settings, record.info, self._prefix + record.info.name
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
            self._write(
                lambda client: client.create_collection(
                    name,
                    vectors_config=vectors,
                    shard_number=settings.shards or None,
                    replication_factor=settings.replicas or None,
                    write_consistency_factor=settings.write_consistency or None,
                    metadata=record.to_metadata(),
                )
            )
        except RequestFailed as error:
            # The first attempt may have succeeded although its response was lost.
            if error.failure.kind != "exists" or self._record(name) != record:
                raise

    def _prepared(self, record: GenerationRecord, empty: bool = False) -> QdrantCollection:
        """Open a generation for writing, after creating its payload indexes and copying its base."""
        collection = self._collection(record.info)
        if record.state == "begun":
            for field, kind in record.info.indexed.items():
                self._create_index(collection.name, json_path(field_path(field)), _FIELD_TYPES[kind])
            if record.base is not None:
                self._copy(self.open(record.base), collection, empty)
            collection.mark(replace(record, state="building"))
        return collection

    def _create_index(self, name: str, key: str, schema: models.PayloadSchemaType) -> None:
        self._write(lambda client: client.create_payload_index(name, key, schema, wait=True))

    @staticmethod
    def _copy(source: QdrantCollection, target: QdrantCollection, empty: bool) -> None:
        """Copy the points that the target lacks, which may be known to be empty; the source does not change."""
        records = source.scroll(_COPY_BATCH)
        while batch := {record.id: record.payload for record in itertools.islice(records, _COPY_BATCH)}:
            existing = set() if empty else {record.id for record in target.retrieve(list(batch))}
            rows = source.vectors([identity for identity in batch if identity not in existing])
            target.upsert([Point(identity, joint, head, batch[identity]) for identity, (joint, head) in rows.items()])

    def _remove(self, name: str) -> None:
        try:
            self._write(lambda client: client.delete_collection(self._prefix + name))
        except RequestFailed as error:
            if error.failure.kind != "missing":
                raise


def _oldest_first(records: Iterable[GenerationRecord]) -> list[CollectionInfo]:
    return sorted((record.info for record in records), key=lambda info: (info.created, info.name))
