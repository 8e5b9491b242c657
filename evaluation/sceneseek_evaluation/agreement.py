"""Agreement of predicted scores with human ratings of the same pairs of an image and a caption.

    rmse, mae           root mean squared, and mean absolute, difference to the target
    pearson, spearman   correlation with the target: of the values, and of their ranks (ties share the mean rank)
    kendall_tau_b, kendall_tau_c            rank correlation in the published protocol, see below
    kendall_tau_b_all, kendall_tau_c_all    the same for all pairs
    ece                 expected calibration error, see `calibration_error`

The target of a pair is a number in [0, 1] (the mean rating, or the share of yes labels). The published protocol of
Flickr8k-Expert for Kendall's tau (Anderson et al., SPICE, ECCV 2016; Hessel et al., CLIPScore, EMNLP 2021) omits pairs
whose caption was written for the same image, and takes each rater's score as a data point. The papers have 5,664 pairs
times three raters; here `n_pairs_published` is the number of pairs. Without scores of single raters, as for crowd
labels, a pair's target is its only data point, and no pair is omitted, as in the published figures of Flickr8k-CF,
which are tau-b. Correlations are in [-1, 1] (papers print tau times 100), and null if all values of a side are equal.

Every figure has a 95% interval from the bootstrap by image. In JSON, figures are top-level keys::

    {"rmse": {"value": 0.17, "ci95": [0.16, 0.18]}, ..., "n_pairs": 2855, "n_pairs_published": 2740,
     "n_images": 698, "reliability": [{"mean_predicted": 0.02, "mean_target": 0.03, "count": 286}, ...]}

scipy (the extra `evaluate`) is imported when the first figure is computed.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sceneseek.errors import DataError
from sceneseek_evaluation.figures import BOOTSTRAP, Bootstrap, Doubles, Figure, Positions

KENDALL = ("kendall_tau_b", "kendall_tau_c", "kendall_tau_b_all", "kendall_tau_c_all")
FIGURES = ("rmse", "mae", "pearson", "spearman", *KENDALL, "ece")
BINS = 10


@dataclass(frozen=True)
class Rated:
    """P rated pairs and their predicted scores.

    Attributes:
        predicted: (P,) scores in [0, 1].
        target: (P,) in [0, 1].
        scores: (P, R) scores of single raters in [0, 1], NaN if missing; all NaN (or R = 0) if unknown.
        own: bool (P,), whether the caption was written for the same image.
        image: int64 (P,), the pair's image, which the bootstrap resamples.
    """

    predicted: Doubles
    target: Doubles
    scores: Doubles
    own: npt.NDArray[np.bool_]
    image: Positions

    def __post_init__(self) -> None:
        shapes = {len(self.predicted), len(self.target), len(self.scores), len(self.own), len(self.image)}
        if shapes != {len(self.target)} or not len(self.target):
            raise ValueError(f"arrays of different lengths, or none: {sorted(shapes)}")
        if not (np.isfinite(self.predicted).all() and np.isfinite(self.target).all()):
            raise ValueError("a predicted score or a target is not a finite number")

    def __len__(self) -> int:
        return len(self.target)

    @property
    def by_rater(self) -> bool:
        """Whether scores of single raters are known."""
        return not np.isnan(self.scores).all()  # also False without any scores (R = 0)

    @property
    def published(self) -> npt.NDArray[np.bool_]:
        """The pairs that count in the published protocol, bool (P,)."""
        return ~self.own if self.by_rater else np.ones(len(self), np.bool_)


@dataclass(frozen=True, slots=True)
class Bin:
    """One point of a reliability plot: means over pairs with neighbouring predicted scores."""

    mean_predicted: float
    mean_target: float
    count: int


@dataclass(frozen=True)
class Agreement:
    """The agreement of scores with ratings.

    Attributes:
        figures: the figures `FIGURES`, by name.
        pairs: number of pairs.
        published: number of pairs that count in the published protocol.
        images: number of images.
        reliability: at most `BINS` bins, from low to high predictions.
    """

    figures: dict[str, Figure]
    pairs: int
    published: int
    images: int
    reliability: list[Bin]

    def to_json(self) -> dict[str, Any]:
        """As JSON values; see the module's docstring."""
        return {
            **{name: figure.to_json() for name, figure in self.figures.items()},
            "n_pairs": self.pairs,
            "n_pairs_published": self.published,
            "n_images": self.images,
            "reliability": [asdict(b) for b in self.reliability],
        }


def measure_agreement(rated: Rated, bootstrap: Bootstrap = BOOTSTRAP) -> Agreement:
    """Compute every figure with its interval.

    Raises:
        DataError: scipy is not installed.
    """
    published, every = _Points(rated, rated.published), _Points(rated, np.ones(len(rated), np.bool_))

    def measure(rows: Positions) -> dict[str, float]:
        taus = dict(zip(KENDALL, (*published.taus(rows), *every.taus(rows)), strict=True))
        return {**pair_figures(rated.predicted[rows], rated.target[rows]), **taus}

    found = bootstrap.figures(measure(np.arange(len(rated))), measure, rated.image)
    return Agreement(
        figures={name: found[name] for name in FIGURES},
        pairs=len(rated),
        published=published.pairs,
        images=len(np.unique(rated.image)),
        reliability=reliability(rated.predicted, rated.target),
    )


def reliability(predicted: Doubles, target: Doubles) -> list[Bin]:
    """Return pairs (P,) in `BINS` bins of equal count by predicted score, from low to high.

    Equal predictions stay together, in the bin of their middle; so bins may be larger than others, and empty ones are
    omitted.
    """
    return _bins(predicted, target, _ranks(predicted))


def calibration_error(bins: list[Bin]) -> float:
    """Return the expected calibration error: the mean over the pairs of |mean predicted - mean target| of their bin.

    As defined by Naeini, Cooper and Hauskrecht (AAAI 2015) for the probability of a class, with the mean target instead
    of the accuracy, and with bins of equal count as recommended by Nixon et al. (Measuring Calibration in Deep
    Learning, CVPR workshops 2019). It is 0 if scores are right on average at every level, however much single pairs
    scatter. Noise only increases absolute values, so the replicates, and with them the interval, tend to lie a little
    above the figure itself.
    """
    total = sum(b.count for b in bins)
    return sum(b.count * abs(b.mean_predicted - b.mean_target) for b in bins) / total


def tau_from_table(table: npt.NDArray[np.int64]) -> tuple[float, float]:
    """Return Kendall's tau-b and tau-c of a contingency table; NaN if one side has a single value.

    Equals `scipy.stats.kendalltau` of the counted points, but is much faster if one side has few levels, and the
    bootstrap calls it thousands of times.

    Args:
        table: (X, Y), number of points with the x-th value on one side and the y-th on the other, both ascending.
    """
    by_x, by_y = table.sum(axis=1), table.sum(axis=0)
    levels = min(np.count_nonzero(by_x), np.count_nonzero(by_y))
    if levels < 2:
        return math.nan, math.nan
    n = int(by_x.sum())
    before = table.cumsum(axis=0) - table  # points with this y and a smaller x
    lower = before.cumsum(axis=1) - before  # points with a smaller x and a smaller y
    surplus = 2 * lower + before - before.sum(axis=1, keepdims=True)  # concordant minus discordant
    difference = int((table * surplus).sum())
    total = n * (n - 1) // 2
    untied = [total - int((counts * (counts - 1) // 2).sum()) for counts in (by_x, by_y)]
    tau_b = difference / math.sqrt(untied[0]) / math.sqrt(untied[1])
    tau_c = 2 * difference / (n**2 * (int(levels) - 1) / int(levels))
    return max(-1.0, min(1.0, tau_b)), max(-1.0, min(1.0, tau_c))


def require_scipy() -> Any:
    """Return the module `scipy.stats`.

    Raises:
        DataError: it is not installed.
    """
    try:
        from scipy import stats  # noqa: PLC0415 - an extra that retrieval does not need
    except ImportError as error:
        raise DataError(
            f"agreement with ratings needs a package that is not installed ({error})",
            "install sceneseek with the extra `evaluate`",
        ) from error
    return stats


class _Points:
    """The data points of Kendall's tau for all or some pairs: each is a predicted value and a score.

    Attributes:
        pairs: number of pairs with data points.
    """

    def __init__(self, rated: Rated, chosen: npt.NDArray[np.bool_]) -> None:
        scores = rated.scores if rated.by_rater else rated.target[:, None]
        present = ~np.isnan(scores) & chosen[:, None]
        predicted = np.broadcast_to(rated.predicted[:, None], scores.shape)
        self.pairs = int(present.any(axis=1).sum())
        xs, x = np.unique(predicted[present], return_inverse=True)
        ys, y = np.unique(scores[present], return_inverse=True)
        self._shape = len(xs), len(ys)
        # Each pair's cells in the table; the cell past its end stands for a missing score.
        self._cells = np.full(scores.shape, len(xs) * len(ys))
        self._cells[present] = x * len(ys) + y

    def taus(self, rows: Positions) -> tuple[float, float]:
        """Return tau-b and tau-c of the points of these pairs."""
        cells = self._shape[0] * self._shape[1]
        counts = np.bincount(self._cells[rows].ravel(), minlength=cells + 1)[:cells]
        return tau_from_table(counts.reshape(self._shape))


def pair_figures(predicted: Doubles, target: Doubles) -> dict[str, float]:
    """Return the figures that need no single raters, of P predictions and targets: errors, correlations, calibration.

    Raises:
        DataError: scipy is not installed.
    """
    gap = predicted - target
    ranks = _ranks(predicted)
    return {
        "rmse": math.sqrt((gap**2).mean()),
        "mae": float(np.abs(gap).mean()),
        "pearson": _correlation(predicted, target),
        "spearman": _correlation(ranks, _ranks(target)),
        "ece": calibration_error(_bins(predicted, target, ranks)),
    }


def _bins(predicted: Doubles, target: Doubles, ranks: Doubles) -> list[Bin]:
    which = ((ranks - 0.5) * BINS / len(ranks)).astype(np.int64)
    counts = np.bincount(which)
    sums = np.bincount(which, predicted), np.bincount(which, target)
    return [
        Bin(float(sums[0][i] / count), float(sums[1][i] / count), int(count)) for i, count in enumerate(counts) if count
    ]


def _correlation(x: Doubles, y: Doubles) -> float:
    """Return Pearson's correlation; NaN if one side is constant."""
    if x.min() == x.max() or y.min() == y.max():
        return math.nan
    a, b = x - x.mean(), y - y.mean()
    # Divided by the largest value first, so that squares of tiny differences do not underflow.
    a, b = a / np.abs(a).max(), b / np.abs(b).max()
    return float(np.clip((a * b).sum() / math.sqrt((a * a).sum() * (b * b).sum()), -1, 1))


def _ranks(values: Doubles) -> Doubles:
    """Return ranks from 1; equal values share their mean rank."""
    ranks: Doubles = require_scipy().rankdata(values)
    return ranks
