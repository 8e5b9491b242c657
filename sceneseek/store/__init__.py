"""The vector database: the interface `VectorStore` and its engines, chosen by a URL."""

from sceneseek.store.base import Collection, CollectionInfo, Point, Record, Source, StoredVectors, VectorStore
from sceneseek.store.url import open_store

__all__ = ["Collection", "CollectionInfo", "Point", "Record", "Source", "StoredVectors", "VectorStore", "open_store"]
