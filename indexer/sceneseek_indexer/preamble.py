"""What a receipt can say before any work: the images that stay, those that are gone, and the files not looked at."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from sceneseek_indexer.known import Known
from sceneseek_indexer.plan import Place, Plan, place
from sceneseek_indexer.receipt import Receipt
from sceneseek_indexer.receipt_file import Line, file_line, skipped_line
from sceneseek_indexer.walk import Listing, Skipped

_WRITTEN = {"indexed", "touched", "renamed", "copied"}


def preamble(
    receipt: Receipt, plan: Plan, listings: Collection[Listing], earlier: Mapping[str, Line], present: Collection[str]
) -> list[Line]:
    """The lines; the receipt's counts go up with them.

    Args:
        receipt: the run's.
        plan: what it is to do.
        listings: what the folders hold.
        earlier: what an interrupted run of the same generation told, by id.
        present: ids of the images that the generation holds or is to hold.
    """
    passed = {(e.source, e.relative): e for listing in listings for e in (*listing.skipped, *listing.ignored)}
    left = {place(image) for image in plan.gone}
    leaving = {image.id for image in plan.removed}
    lines = [_kept(image, earlier.get(image.id), receipt) for image in plan.unchanged]
    for image in plan.gone:
        if image.id not in leaving:
            receipt.gone += 1
            lines.append({**file_line("gone", image), **_why(passed, place(image))})
    for line in earlier.values():
        if line["fate"] == "removed" and line["id"] not in present:
            receipt.removed += 1
            receipt.resumed += 1
            lines.append(line)
    for listing in listings:
        lines += [skipped_line("skipped", entry) for entry in listing.skipped if _place(entry) not in left]
        lines += [skipped_line("ignored", entry) for entry in listing.ignored if _place(entry) not in left]
    return lines


def _kept(image: Known, told: Line | None, receipt: Receipt) -> Line:
    """An image that is as it should be: it was so before, or an interrupted run has made it so."""
    if not image.fresh:
        receipt.unchanged += 1
        return file_line("unchanged", image)
    receipt.resumed += 1
    if told is None or told["fate"] not in _WRITTEN:
        # Killed after the batch was durable and before it was told.
        told = file_line("indexed", image)
    receipt.add(told["fate"])
    return told


def _place(entry: Skipped) -> Place:
    return entry.source, entry.relative


def _why(passed: Mapping[Place, Skipped], at: Place) -> Line:
    entry = passed.get(at)
    return {"reason": entry.reason, "what": entry.what} if entry is not None else {}
