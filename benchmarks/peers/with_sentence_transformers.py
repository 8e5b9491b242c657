"""Index and search a folder's images with sentence-transformers and a numpy array, as documented.

Runs in its own virtual environment, without sceneseek; its arguments are those of `with_fastembed`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sentence_transformers import SentenceTransformer, util


def index(weights: str, home: Path, photos: Path) -> None:
    """Embed images that are not in the array yet."""
    names, vectors = home / "names.json", home / "vectors.npy"
    indexed = json.loads(names.read_text()) if names.exists() else []
    known = set(indexed)
    new = [str(path) for path in sorted(photos.rglob("*.jpg")) if str(path) not in known]
    if not new:
        return
    model = SentenceTransformer(weights)
    parts = [
        new[start : start + 32] for start in range(0, len(new), 32)
    ]  # decoded pictures of one part in memory at a time
    embedded = [model.encode([Image.open(path) for path in part]) for part in parts]
    np.save(vectors, np.concatenate([*([np.load(vectors)] if indexed else []), *embedded]))
    names.write_text(json.dumps([*indexed, *new]))


def search(weights: str, home: Path, query: str) -> None:
    """Print the ten nearest images."""
    names, vectors = json.loads((home / "names.json").read_text()), np.load(home / "vectors.npy")
    (hits,) = util.semantic_search(SentenceTransformer(weights).encode([query]), vectors, top_k=10)
    for hit in hits:
        print(f"{hit['score']:.3f}", names[hit["corpus_id"]])


def main() -> None:
    """Run the command given by the arguments."""
    command, weights, home, photos, *query = sys.argv[1:]
    if command == "index":
        index(weights, Path(home), Path(photos))
    else:
        search(weights, Path(home), *query)


main()
