"""A folder's images in a numpy array, by sentence-transformers: as its documentation has it, nothing more.

Runs in a virtual environment of its own, without sceneseek; called as `with_fastembed` is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sentence_transformers import SentenceTransformer, util


def index(weights: str, home: Path, photos: Path) -> None:
    """Embed what is not in the array yet."""
    names, vectors = home / "names.json", home / "vectors.npy"
    there = json.loads(names.read_text()) if names.exists() else []
    known = set(there)
    new = [str(path) for path in sorted(photos.rglob("*.jpg")) if str(path) not in known]
    if not new:
        return
    model = SentenceTransformer(weights)
    parts = [new[start : start + 32] for start in range(0, len(new), 32)]  # not all pictures in memory at once
    found = [model.encode([Image.open(path) for path in part]) for part in parts]
    np.save(vectors, np.concatenate([*([np.load(vectors)] if there else []), *found]))
    names.write_text(json.dumps([*there, *new]))


def search(weights: str, home: Path, query: str) -> None:
    """Print the ten nearest."""
    names, vectors = json.loads((home / "names.json").read_text()), np.load(home / "vectors.npy")
    (hits,) = util.semantic_search(SentenceTransformer(weights).encode([query]), vectors, top_k=10)
    for hit in hits:
        print(f"{hit['score']:.3f}", names[hit["corpus_id"]])


def main() -> None:
    """Do what the arguments say."""
    what, weights, home, photos, *query = sys.argv[1:]
    if what == "index":
        index(weights, Path(home), Path(photos))
    else:
        search(weights, Path(home), *query)


main()
