"""The sync plan: the outcome of each file and image of an inventory.

An image with the same size and times as before is `unchanged`. Of the others, `files_to_hash` returns those with the
size of an image of the index, and `make_plan` decides by their hashes. Content that the index has is never encoded
again:

    touched    the same content at the same place; only its times differ
    renamed    the content of an image whose file is gone; its vectors are reused
    copied     the content of an image that is still in the index
    encode     all others: new files and new content

An image of the index that is not listed and was not renamed is `gone`. Planning reads neither files nor the store. It
runs as SQL in the inventory's database, so its memory does not grow with the number of images.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from sceneseek_indexer.inventory import Inventory, Known, Place, SizedIterable, as_image, as_path
from sceneseek_indexer.temporary_database import View
from sceneseek_indexer.walk import UNREADABLE, ImageFile, Listing, above


@dataclass(frozen=True, slots=True)
class Reuse:
    """A file that reuses the vectors of `origin`, an image of the index."""

    file: ImageFile
    origin: Known
    outcome: Literal["touched", "renamed", "copied"]


@dataclass(frozen=True)
class Plan:
    """The outcomes of a run.

    Attributes:
        unchanged: images that stay as they are.
        resumed: the `unchanged` images that an interrupted run wrote.
        reused: files whose content the index has.
        encode: files to decode and encode.
        gone: images of the index whose files are deleted.
        away: the `gone` images in folders that are empty or not mounted; they are never removed.
        removed: the `gone` images to remove from the index.
        kept: the `gone` images that stay in the index.
        overwritten: images of the index whose vectors are reused and whose own content changes.
        described: the present paths of images with user metadata in the index.
    """

    unchanged: SizedIterable[Known] = ()
    resumed: SizedIterable[Known] = ()
    reused: SizedIterable[Reuse] = ()
    encode: SizedIterable[ImageFile] = ()
    gone: SizedIterable[Known] = ()
    away: SizedIterable[Known] = ()
    removed: SizedIterable[Known] = ()
    kept: SizedIterable[Known] = ()
    overwritten: SizedIterable[Known] = ()
    described: SizedIterable[str] = ()

    @property
    def empty(self) -> bool:
        """Whether no point is written or removed."""
        return not (self.reused or self.encode or self.removed)


def files_to_hash(inventory: Inventory) -> View[ImageFile]:
    """The changed files with the size of an image of the index: their hashes decide the outcome."""
    return View(
        inventory.database,
        inventory.as_file,
        "SELECT file.* FROM pair CROSS JOIN file ON number = pair.file "
        "WHERE outcome IS NULL AND bytes IN (SELECT bytes FROM image) ORDER BY pair.file",
    )


# The `gone` images, and whether they are `away` and `removed`.
_GONE = "CREATE TABLE gone (image INTEGER PRIMARY KEY, away, removed)"
_TOUCHED = """
UPDATE pair SET outcome = 'touched', origin = image
WHERE file IN (
    SELECT pair.file FROM hash CROSS JOIN pair USING (file) CROSS JOIN image ON number = pair.image
    WHERE hash.sha256 = image.sha256
)
"""
# Each gone image is renamed at most once; images and files with equal content are paired in the order of their places.
_RENAMED = """
REPLACE INTO pair
SELECT new.file, new.image, 'renamed', old.image
FROM (
    SELECT file, image, sha256, row_number() OVER (PARTITION BY sha256 ORDER BY file) AS turn
    FROM hash CROSS JOIN pair USING (file) WHERE outcome IS NULL
) AS new JOIN (
    SELECT gone.image, sha256, row_number() OVER (PARTITION BY sha256 ORDER BY source, relative) AS turn
    FROM gone CROSS JOIN image ON number = gone.image WHERE NOT away
) AS old USING (sha256, turn)
"""
_COPIED = """
REPLACE INTO pair
SELECT file, image, 'copied', last
FROM hash CROSS JOIN pair USING (file) JOIN (
    SELECT sha256, max(number) AS last FROM image WHERE sha256 IN (SELECT sha256 FROM hash) GROUP BY sha256
) USING (sha256)
WHERE outcome IS NULL
"""
_REMOVE_RENAMED = "DELETE FROM gone WHERE image IN (SELECT origin FROM pair WHERE outcome = 'renamed')"
_MISSING = """
SELECT image.number, image.source, image.relative FROM image LEFT JOIN file USING (source, relative)
WHERE file.number IS NULL
"""
_OVERWRITTEN = """
SELECT image.* FROM (SELECT DISTINCT origin AS number FROM pair WHERE outcome = 'copied')
CROSS JOIN image USING (number) CROSS JOIN file USING (source, relative) CROSS JOIN pair ON pair.file = file.number
WHERE outcome IS NULL OR outcome IN ('renamed', 'copied')
"""
_DESCRIBED = """
SELECT relative FROM file WHERE number IN (
    SELECT file FROM pair JOIN image ON number = pair.image WHERE described
    UNION SELECT file FROM pair JOIN image ON number = origin WHERE outcome = 'renamed' AND described
) ORDER BY number
"""


def make_plan(
    inventory: Inventory,
    listings: Mapping[int, Listing],
    pruned: Container[int] = (),
    deleted: Container[Place] = (),
) -> Plan:
    """Decide the outcome of every image; must be called once per inventory.

    Args:
        inventory: the files, the images, and the hashes of the readable files of `files_to_hash`.
        listings: of the folders that were read, by source number. The images of other sources stay as they are.
        pruned: the sources whose `gone` images are removed.
        deleted: places of images that users deleted; they are removed in any case.
    """
    database, view = inventory.database, functools.partial(View, inventory.database)
    database.execute(_GONE)
    database.executemany("INSERT INTO gone VALUES (?, ?, ?)", _missing(inventory, listings, pruned, deleted))
    for statement in (_TOUCHED, _RENAMED, _COPIED, _REMOVE_RENAMED):
        database.execute(statement)
    of_pair = "SELECT image.* FROM pair CROSS JOIN image ON number = pair.image "
    gone = "SELECT image.* FROM gone CROSS JOIN image ON number = gone.image "
    return Plan(
        unchanged=view(
            as_image,
            of_pair + "WHERE outcome IN ('unchanged', 'resumed') ORDER BY file",
            count="SELECT count(*) FROM pair WHERE outcome IN ('unchanged', 'resumed')",
        ),
        resumed=view(as_image, of_pair + "WHERE outcome = 'resumed' ORDER BY file"),
        reused=view(
            lambda row: Reuse(inventory.as_file(row[1:7]), as_image(row[7:]), row[0]),
            "SELECT outcome, file.*, image.* FROM pair CROSS JOIN file ON file.number = file "
            "CROSS JOIN image ON image.number = origin WHERE origin IS NOT NULL ORDER BY file",
        ),
        encode=view(
            inventory.as_file,
            "SELECT file.* FROM pair CROSS JOIN file ON number = pair.file "
            "WHERE outcome IS NULL OR outcome = 'unread' ORDER BY pair.file",
        ),
        gone=view(as_image, gone + "ORDER BY gone.image"),
        away=view(as_image, gone + "WHERE away ORDER BY gone.image"),
        removed=view(as_image, gone + "WHERE removed ORDER BY gone.image"),
        kept=view(as_image, gone + "WHERE NOT removed ORDER BY gone.image"),
        overwritten=view(as_image, _OVERWRITTEN),
        described=view(lambda row: as_path(row[0]), _DESCRIBED),
    )


def _missing(
    inventory: Inventory, listings: Mapping[int, Listing], pruned: Container[int], deleted: Container[Place]
) -> Iterator[tuple[int, bool, bool]]:
    """The rows of `gone`: images whose files are neither listed nor withheld nor unreadable."""
    unreadable = {
        number: {entry.relative for entry in listing.skipped if entry.reason == UNREADABLE}
        for number, listing in listings.items()
    }
    for number, source, stored in inventory.database.execute(_MISSING):
        if source not in listings:
            continue
        relative, listing = as_path(stored), listings[source]
        if relative in listing.withheld or not unreadable[source].isdisjoint((relative, *above(relative))):
            continue  # it may still exist
        wanted = (source, relative) in deleted
        away = not wanted and not listing.away.isdisjoint(above(relative))
        yield number, away, wanted or (source in pruned and not away)
