"""The engine for a Qdrant server or cluster; requires qdrant-client (the extra `qdrant`)."""

from sceneseek.store.qdrant.settings import QdrantSettings
from sceneseek.store.qdrant.store import QdrantStore

__all__ = ["QdrantSettings", "QdrantStore"]
