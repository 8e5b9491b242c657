"""Where vectors live: one seam, `VectorStore`, and the engines behind it, chosen by one URL."""

from sceneseek.store.base import Collection, CollectionInfo, Point, Record, Source, StoredVectors, VectorStore
from sceneseek.store.url import open_store

__all__ = ["Collection", "CollectionInfo", "Point", "Record", "Source", "StoredVectors", "VectorStore", "open_store"]
