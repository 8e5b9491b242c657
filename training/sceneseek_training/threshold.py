"""Choose the minimum score of a match, for a head, on captions of images in the collection and on foreign texts.

The rule: on a grid of hundredths, find the best balanced accuracy (the mean of the share of captions with a match and
of the share of foreign texts without one); of the thresholds within one standard error of it (Breiman et al.,
Classification and Regression Trees, 1984), take the highest, since a claimed match should be right. The other kinds of
`absence` are measured but do not count: another picture may truly match a caption whose own is absent, and any sensible
threshold rejects nonsense.

    DIR/head.json   gets the section ``match``, see `sceneseek.bundle.MatchThreshold`; nothing else in it changes
    DIR/CARD.md     gets the section "When a result matches", which replaces an older one
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sceneseek.bundle import Bundle, MatchThreshold
from sceneseek.captions import Caption
from sceneseek.errors import DataError
from sceneseek.files import sha256_of, write_atomic
from sceneseek.runtime import Device
from sceneseek.tables import first_few
from sceneseek_evaluation.absence import NEAR, WITHOUT, Asked, absence_figures, ask
from sceneseek_evaluation.figures import BOOTSTRAP, Bootstrap, Doubles
from sceneseek_export.alignment import Alignment, image_key
from sceneseek_export.heads import Head, load_head, save_head
from sceneseek_export.packs import find_pack
from sceneseek_export.trained import check_exported_with, shipped_alignment
from sceneseek_training.cards import CARD, THRESHOLD_HEADING, threshold_section

RULE = (
    "the best balanced accuracy of captions whose image is there and of foreign texts; "
    "of thresholds within one standard error of it, the highest"
)
_GRID = np.round(np.arange(0, 101) / 100, 2)


@dataclass(frozen=True)
class ThresholdData:
    """The data to choose a threshold on.

    Attributes:
        images: the folder that the captions' image names are relative to.
        captions: captions of the collection's images, on which the joint space must not be trained.
        foreign: texts that describe none of the images.
        files: the files of the captions, the foreign texts and the split (if any), which the head names.
        cite: source of the data; may be empty.
    """

    images: Path
    captions: Sequence[Caption]
    foreign: Sequence[str]
    files: tuple[Path, ...]
    cite: str = ""


def fit_threshold(
    bundle: Bundle,
    head: Path,
    alignment: Path | None,
    data: ThresholdData,
    command: str,
    seed: int = 0,
    device: Device = "auto",
    bootstrap: Bootstrap = BOOTSTRAP,
) -> MatchThreshold:
    """Choose the threshold of a bundle's head.

    `head` and `alignment` are the directories that it was exported with; `alignment` defaults to the pack's own. `seed`
    is that of the nonsense; `bootstrap` estimates the intervals and the standard error.

    Raises:
        DataError: the bundle has another head or joint space, the joint space was trained on some of the images, the
            scores separate the queries no better than chance, or see `ask`.
    """
    _check_head(bundle, load_head(head), head)
    _refuse_learned(bundle, alignment, data)
    asked = ask(bundle, data.images, data.captions, data.foreign, seed, device)
    threshold, accuracy = choose_threshold(asked, bootstrap)
    draft = MatchThreshold(threshold=threshold, source="captions and foreign texts")
    about: dict[str, Any] = {
        **{name: figure.to_json() for name, figure in absence_figures(asked, draft, bootstrap).items()},
        "balanced_accuracy": accuracy,
        "rule": RULE,
        "n_images": asked.images,
        "n_queries": {kind: len(asked.of(kind)) for kind in ("present", *WITHOUT)},
        "near": NEAR,
        "data": [{"name": path.name, "sha256": sha256_of(path)} for path in data.files],
        "cite": data.cite,
        "command": command,
        "seed": seed,
    }
    return replace(draft, figures=about)


def choose_threshold(asked: Asked, bootstrap: Bootstrap) -> tuple[float, float]:
    """Return the threshold by the rule of this module, and its balanced accuracy.

    Raises:
        DataError: there are no captions or no foreign texts, or no threshold is better than chance.
    """
    # For each query, the number of thresholds that its best score reaches.
    reached = np.searchsorted(_GRID.astype(np.float32), asked.best, "right")
    present, foreign = asked.kind == "present", asked.kind == "foreign"
    if not present.any() or not foreign.any():
        raise DataError("a threshold needs captions and foreign texts, and one of them is empty", "give both")
    accuracy = _balanced(reached, present, foreign)
    best = int(accuracy.argmax())
    if accuracy[best] <= 0.5:
        raise DataError(
            "no threshold separates the captions from the foreign texts",
            "check that the captions describe their images, and the foreign texts none of them",
        )
    drawn = [_balanced(reached[rows], present[rows], foreign[rows])[best] for rows in bootstrap.resamples(asked.group)]
    good = np.flatnonzero(accuracy >= accuracy[best] - np.nanstd(drawn))
    return float(_GRID[good[-1]]), float(accuracy[good[-1]])


def write_threshold(match: MatchThreshold, directory: Path) -> None:
    """Write a threshold into a head's directory.

    Raises:
        DataError: there is no head, or it cannot be written.
    """
    head = load_head(directory)
    card = directory / CARD
    try:
        save_head(replace(head, match=match), directory)
        before = card.read_text(encoding="utf-8") if card.is_file() else ""
        write_atomic(card, _with_section(before, threshold_section(match)).encode("utf-8"))
    except OSError as error:
        raise DataError(f"{directory} cannot be written ({error.strerror})", "make it writable, or copy it") from error


def _with_section(card: str, section: str) -> str:
    """Return the card with the section at its end; an older section, up to the next heading, is removed."""
    before, heading, rest = card.partition(THRESHOLD_HEADING)
    after = rest.partition("\n## ")[2] if heading else ""
    kept = before.rstrip() + (f"\n\n## {after.rstrip()}" if after else "")
    return f"{kept.lstrip()}\n\n{section}" if kept.strip() else section


def _balanced(
    reached: npt.NDArray[np.int64], present: npt.NDArray[np.bool_], foreign: npt.NDArray[np.bool_]
) -> Doubles:
    """The balanced accuracy of each threshold of the grid."""
    # NaN in a replicate without captions or without foreign texts.
    with np.errstate(invalid="ignore"):
        accuracy: Doubles = (_rates(reached[present]) + 1 - _rates(reached[foreign])) / 2
    return accuracy


def _rates(reached: npt.NDArray[np.int64]) -> Doubles:
    """The share of queries that reach each threshold of the grid."""
    counts = np.bincount(reached, minlength=len(_GRID) + 1)
    rates: Doubles = counts[::-1].cumsum()[::-1][1:] / len(reached)
    return rates


def _check_head(bundle: Bundle, head: Head, directory: Path) -> None:
    exported = bundle.manifest.head
    same_space = head.alignment in ("", bundle.manifest.alignment.get("fingerprint"))
    if not same_space or exported.kind != head.kind or exported.validation != dict(head.validation):
        raise DataError(
            f"{bundle.path} was not exported with the head in {directory}",
            "export it with that head first: sceneseek export --head DIR",
        )


def _refuse_learned(bundle: Bundle, directory: Path | None, data: ThresholdData) -> None:
    """Refuse images that the joint space was trained on; the towers' own joint space was trained on none."""
    if "learned_from" not in bundle.manifest.alignment:
        return
    alignment = Alignment.load(directory or shipped_alignment(find_pack(bundle.manifest.pack)))
    check_exported_with(bundle, alignment)
    learned = set(alignment.learned_images.tolist())
    names = dict.fromkeys(caption.image for caption in data.captions)
    files = {name: data.images / name for name in names}
    shared = [name for name, file in files.items() if file.is_file() and image_key(file.read_bytes()) in learned]
    if shared:
        raise DataError(
            f"the joint space was trained on {len(shared):,} of the images: {first_few(shared)}",
            "a threshold chosen on them would be too high; choose others with --split",
        )
