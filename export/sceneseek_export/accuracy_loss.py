"""The accuracy loss of a lower precision: compares a converted bundle with the float32 bundle of the same parts.

Two bundles, images and texts become an `AccuracyLoss`: cosines of the joint vectors, differences of the scores, and,
if captions or ratings are given, the losses of recall@5 and of Kendall's tau-c. Both bundles are measured in one run on
the same data, each with its own graphs and reranker. Recall is that of the order a user sees, by score
(``rescored.recall@5`` of `sceneseek_evaluation.retrieval`); tau-c follows the published protocol
(`sceneseek_evaluation.agreement`). `quantization` converts the graphs.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sceneseek.bundle import Bundle
from sceneseek.captions import Captions, read_captions
from sceneseek.encoders import TextEncoder
from sceneseek.errors import DataError, ExportError
from sceneseek.reranker import Reranker
from sceneseek.runtime import Device
from sceneseek.store import open_store
from sceneseek.vectors import Floats, Vectors
from sceneseek_evaluation.figures import Bootstrap
from sceneseek_evaluation.pairs import encode_images, score_pairs, searchable
from sceneseek_evaluation.rating_files import read_expert
from sceneseek_evaluation.ratings_report import evaluate_ratings
from sceneseek_evaluation.retrieval import RESCORED, evaluate_retrieval

RECALL, TAU_C = "recall@5", "tau_c"
_DEVICE: Device = "cpu"

log = logging.getLogger(__name__)


# Accepted loss of a conversion: the smallest mean cosines of joint vectors, and the largest losses of recall@5 and of
# tau-c in points (values times 100). docs/explanation/precision.md explains the numbers.
LIMITS = {"image_cosine": 0.985, "text_cosine": 0.985, "recall": 1.0, "tau_c": 0.5}


@dataclass(frozen=True, slots=True)
class AccuracyData:
    """Captioned images, optionally with human ratings, to measure the accuracy loss.

    Attributes:
        images: the folder that names are relative to.
        captions: a TSV with the columns image and caption, and with caption_id if there are ratings.
        split: a file with one name per line: measure recall only on these images; None for all.
        expert: experts' ratings, see `sceneseek_evaluation.ratings`; tau-c is not measured without them.
    """

    images: Path
    captions: Path
    split: Path | None = None
    expert: Path | None = None


@dataclass(frozen=True, slots=True)
class Cosine:
    """Mean and smallest of the cosines of `count` pairs of vectors."""

    mean: float
    least: float
    count: int

    @classmethod
    def of(cls, ours: Floats, reference: Floats) -> Cosine:
        """Compare two arrays (N, D), N at least 1, row by row; zero and non-finite vectors have the cosine -1."""
        lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(reference, axis=1)
        products = (ours.astype(np.float64) * reference).sum(axis=1)
        cosines = np.divide(products, lengths, out=np.full(len(ours), -1.0), where=lengths > 0)
        cosines = np.where(np.isfinite(cosines), cosines, -1.0)
        return cls(float(cosines.mean()), float(cosines.min()), len(cosines))


@dataclass(frozen=True, slots=True)
class Difference:
    """Largest and mean absolute difference of `count` scores."""

    largest: float
    mean: float
    count: int

    @classmethod
    def of(cls, ours: Floats, reference: Floats) -> Difference:
        """Compare two arrays (N,); NaN differs by 1, the largest possible difference of scores."""
        differences = np.nan_to_num(np.abs(ours.astype(np.float64) - reference), nan=1.0)
        return cls(float(differences.max()), float(differences.mean()), len(differences))


@dataclass(frozen=True, slots=True)
class Loss:
    """A metric times 100 of both bundles, over `count` captions or rated pairs."""

    fp32: float
    converted: float
    count: int

    @property
    def points(self) -> float:
        """The loss; negative if the converted bundle is better."""
        return self.fp32 - self.converted


@dataclass(frozen=True)
class AccuracyLoss:
    """The differences between a converted bundle and its float32 original.

    Attributes:
        image_cosine: between the joint vectors of images.
        text_cosine: between the joint vectors of texts, each encoded alone, like a query.
        batch_cosine: between texts encoded alone and in one batch, both by the converted bundle. Dynamic int8 computes
            its ranges over a batch, so this is not 1.
        score: between the scores of every image with every text.
        loss: by `RECALL` and `TAU_C`; empty without data.
    """

    image_cosine: Cosine
    text_cosine: Cosine
    batch_cosine: Cosine
    score: Difference
    loss: Mapping[str, Loss]

    def to_json(self) -> dict[str, Any]:
        """JSON values for a manifest: rounded, with the limits that applied."""
        cosines = {name: getattr(self, name) for name in ("image_cosine", "text_cosine", "batch_cosine")}
        return {
            **{name: _rounded(asdict(cosine), 6) for name, cosine in cosines.items()},
            "score_difference": _rounded(asdict(self.score), 6),
            "loss": {
                name: _rounded({"points": loss.points, **asdict(loss)}, 3) for name, loss in sorted(self.loss.items())
            },
            "limits": LIMITS,
        }


def lines_of(document: Mapping[str, Any]) -> list[str]:
    """Human-readable lines for the output of `AccuracyLoss.to_json`."""
    labels = (("images", "image_cosine"), ("texts", "text_cosine"), ("texts in a batch", "batch_cosine"))
    lines = [
        f"cosine of {what}: mean {document[name]['mean']:.4f}, minimum {document[name]['least']:.4f} "
        f"({document[name]['count']:,})"
        for what, name in labels
    ]
    score = document["score_difference"]
    lines.append(f"scores differ by {score['mean']:.4f}, at most {score['largest']:.4f} ({score['count']:,})")
    for name, loss in sorted(document["loss"].items()):
        lines.append(f"{name} x100: {loss['fp32']:.2f} -> {loss['converted']:.2f}, {loss['points']:+.2f} lost")
    return lines


def measure_accuracy_loss(
    fp32: Bundle,
    converted: Bundle,
    images: Sequence[Path],
    texts: Sequence[str],
    data: AccuracyData | None = None,
) -> AccuracyLoss:
    """Compare a bundle in a lower precision with the float32 bundle of the same parts.

    The images must not be those that the conversion was calibrated on. Images that cannot be decoded are skipped.

    Raises:
        DataError: no image can be used, a text cannot be searched, or the data cannot be read.
    """
    if not texts:
        raise DataError("there is no text to compare on", "give at least one")
    files = {str(path): path for path in images}
    image_vectors = [encode_images(bundle, files, _DEVICE).vectors for bundle in (fp32, converted)]
    queries = [searchable(text) for text in texts]
    encoders = [TextEncoder(bundle, _DEVICE) for bundle in (fp32, converted)]
    text_vectors = [_one_by_one(encoder, queries) for encoder in encoders]
    pairs = np.indices((len(image_vectors[0].joint), len(queries))).reshape(2, -1)
    scores = [
        score_pairs(Reranker(bundle), pictures, words, *pairs)
        for bundle, pictures, words in zip((fp32, converted), image_vectors, text_vectors, strict=True)
    ]
    return AccuracyLoss(
        image_cosine=Cosine.of(image_vectors[1].joint, image_vectors[0].joint),
        text_cosine=Cosine.of(text_vectors[1].joint, text_vectors[0].joint),
        batch_cosine=Cosine.of(text_vectors[1].joint, encoders[1].encode(queries).joint),
        score=Difference.of(scores[1], scores[0]),
        loss={} if data is None else _losses(fp32, converted, data),
    )


def check(measured: AccuracyLoss, forced: bool = False) -> None:
    """Reject a loss over `LIMITS`; if forced, log a warning instead.

    Raises:
        ExportError: the message lists each value beyond its limit.
    """
    over = []
    for what, cosine, least in (
        ("images", measured.image_cosine, LIMITS["image_cosine"]),
        ("texts", measured.text_cosine, LIMITS["text_cosine"]),
    ):
        if not cosine.mean >= least:
            over.append(f"the mean cosine of {what} to fp32 is {cosine.mean:.4f}, under {least:g}")
    for name, most in ((RECALL, LIMITS["recall"]), (TAU_C, LIMITS["tau_c"])):
        if name in measured.loss and not measured.loss[name].points <= most:
            loss = measured.loss[name]
            over.append(
                f"{name} (x100) falls by {loss.points:.2f} from {loss.fp32:.2f} to {loss.converted:.2f}, over {most:g}"
            )
    if not over:
        return
    if not forced:
        raise ExportError(
            f"the lower precision loses too much accuracy: {'; '.join(over)}",
            "calibrate on more or other images, choose another precision, or pass --force",
        )
    for line in over:
        log.warning("forced, although %s", line)


def _one_by_one(encoder: TextEncoder, queries: Sequence[str]) -> Vectors:
    vectors = [encoder.encode([query]) for query in queries]
    return Vectors(np.concatenate([v.joint for v in vectors]), np.concatenate([v.head for v in vectors]))


def _losses(fp32: Bundle, converted: Bundle, data: AccuracyData) -> dict[str, Loss]:
    (recall, queries), (converted_recall, _) = (_recall(bundle, data) for bundle in (fp32, converted))
    losses = {RECALL: Loss(100 * recall, 100 * converted_recall, queries)}
    if data.expert is not None:
        (tau, pairs), (converted_tau, _) = (_tau_c(bundle, data, data.expert) for bundle in (fp32, converted))
        losses[TAU_C] = Loss(100 * tau, 100 * converted_tau, pairs)
    return losses


def _recall(bundle: Bundle, data: AccuracyData) -> tuple[float, int]:
    """recall@5 in the order by score, and the number of captions."""
    rows = read_captions(data.captions, data.split)
    with tempfile.TemporaryDirectory(prefix="sceneseek-loss-") as scratch:
        store = open_store(f"file:{scratch}/index")
        # No intervals: only the difference of two values on the same captions is needed.
        report = evaluate_retrieval(bundle, data.images, rows, store, _DEVICE, Bootstrap(replicates=0))
    return report.figures[f"{RESCORED}{RECALL}"].value or 0.0, report.queries


def _tau_c(bundle: Bundle, data: AccuracyData, expert: Path) -> tuple[float, int]:
    """Kendall's tau-c by the published protocol, 0 if it is undefined, and the number of rated pairs."""
    ratings = read_expert(expert, data.images, Captions.read(data.captions))
    report = evaluate_ratings(bundle, ratings, device=_DEVICE, bootstrap=Bootstrap(replicates=0))
    agreement = report.expert.agreement
    return agreement.figures["kendall_tau_c"].value or 0.0, agreement.published


def _rounded(numbers: Mapping[str, Any], digits: int) -> dict[str, Any]:
    return {name: round(number, digits) if isinstance(number, float) else number for name, number in numbers.items()}
