"""Index and search a folder's images with fastembed and a local collection of qdrant-client, as documented.

Runs in its own virtual environment, without sceneseek: ``index WEIGHTS HOME PHOTOS`` or ``search WEIGHTS HOME
PHOTOS QUERY``.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

from fastembed import ImageEmbedding, TextEmbedding
from qdrant_client import QdrantClient, models

COLLECTION, WIDTH = "images", 512


def index(weights: Path, client: QdrantClient, photos: Path) -> None:
    """Embed images that are not in the collection yet."""
    if not client.collection_exists(COLLECTION):
        client.create_collection(COLLECTION, models.VectorParams(size=WIDTH, distance=models.Distance.COSINE))
    known, _ = client.scroll(COLLECTION, limit=10**9, with_payload=True)
    indexed = {point.payload["path"] for point in known if point.payload}
    new = [str(path) for path in sorted(photos.rglob("*.jpg")) if str(path) not in indexed]
    if not new:
        return
    model = ImageEmbedding("Qdrant/clip-ViT-B-32-vision", specific_model_path=str(weights / "vision"))
    points = (
        models.PointStruct(id=str(uuid.uuid5(uuid.NAMESPACE_URL, path)), vector=vector.tolist(), payload={"path": path})
        for path, vector in zip(new, model.embed(new), strict=True)
    )
    client.upload_points(COLLECTION, points)


def search(weights: Path, client: QdrantClient, query: str) -> None:
    """Print the ten nearest images."""
    model = TextEmbedding("Qdrant/clip-ViT-B-32-text", specific_model_path=str(weights / "text"))
    (vector,) = model.embed([query])
    for point in client.query_points(COLLECTION, vector.tolist(), limit=10).points:
        print(f"{point.score:.3f}", (point.payload or {})["path"])


def main() -> None:
    """Run the command given by the arguments."""
    command, weights, home, photos, *query = sys.argv[1:]
    client = QdrantClient(path=home)
    if command == "index":
        index(Path(weights), client, Path(photos))
    else:
        search(Path(weights), client, *query)
    client.close()


main()
