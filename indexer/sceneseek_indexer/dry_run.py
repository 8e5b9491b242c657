"""What a run would do, without doing it."""

from __future__ import annotations

from collections.abc import Sequence

from sceneseek.bundle import Bundle
from sceneseek.store import VectorStore
from sceneseek_indexer.known import Known, images_of
from sceneseek_indexer.options import BuildOptions
from sceneseek_indexer.plan import Place, place
from sceneseek_indexer.receipt import Receipt
from sceneseek_indexer.sources import Folder
from sceneseek_indexer.survey import survey


def foresee(
    folders: Sequence[Folder], bundle: Bundle, store: VectorStore, options: BuildOptions | None = None
) -> Receipt:
    """What `index_folders` would do. Nothing is decoded and nothing in the index changes.

    Raises:
        SourceError, InvalidRequest, IndexUnavailable: as `index_folders` would.
    """
    options = options or BuildOptions()
    found = survey(folders, bundle, store, options)
    known: dict[Place, Known] = {}
    if found.base is not None:
        known = {place(image): image for image in images_of(store, found.base.name)}
    receipt = found.receipt()
    receipt.generation = found.live.name if found.live is not None else ""
    receipt.foresee(found.plan(known, options))
    return receipt
