"""The report says all that was found, shows nothing that must not be shown, and escapes everything that it quotes."""

from __future__ import annotations

import base64
import dataclasses
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sceneseek_evaluation.agreement import FIGURES, Rated, measure_agreement
from sceneseek_evaluation.figures import Bootstrap
from sceneseek_evaluation.ratings import Ratings
from sceneseek_training.cross_validation import GROUPINGS, Grouping, HeadResult, LearningPoint
from sceneseek_training.head_recipes import RECIPES
from sceneseek_training.model_selection import HeadComparison, ModelSelection
from sceneseek_training.report import HTML, MARKDOWN, write_report
from sceneseek_training.report.document import for_markdown
from sceneseek_training.report.measures import DASH, MEASURES, RMSE, TAU_C, decimal, signed
from sceneseek_training.report.plots import Line, apart
from sceneseek_training.report.tables import levels

IMAGES, CAPTIONS, PAIRS = 12, 10, 60
RULE = "the candidate must beat the baseline"
HOSTILE = "<script>alert('x')</script> & \"quoted\" | *bold* [link](http://evil.example)"
VOID = {"br", "hr", "img", "input", "link", "meta"}


class Page(HTMLParser):
    """What a browser would make of a page: its elements, its texts, and whether every element is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]

    def images(self, kind: str) -> list[str]:
        """The data URIs of the images of a kind, such as ``jpeg``."""
        sources = [attributes["src"] or "" for attributes in self.all("img")]
        return [source for source in sources if source.startswith(f"data:image/{kind}")]

    def plots(self) -> dict[str, str]:
        """The plots' SVG, by what is said of them."""
        return {
            attributes["alt"] or "": base64.b64decode((attributes["src"] or "").partition(",")[2]).decode()
            for attributes in self.all("img")
            if (attributes["src"] or "").startswith("data:image/svg")
        }


def ratings_in(folder: Path, names: list[str] | None = None, captions: list[str] | None = None) -> Ratings:
    """Ratings by three raters of drawn images; every 16th pair is an image's own caption."""
    rng = np.random.default_rng(1)
    names = names or [f"image {i}.png" for i in range(IMAGES)]
    captions = captions or [f"caption number {i}" for i in range(CAPTIONS)]
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (300, 200), (20 * i, 100, 50)).save(folder / name, "PNG")
    truth = rng.random(PAIRS)
    scores = np.clip(np.rint(3 * (truth[:, None] + 0.15 * rng.normal(size=(PAIRS, 3)))), 0, 3) / 3
    return Ratings(
        label="expert.tsv",
        names=tuple(names),
        paths=tuple(folder / name for name in names),
        captions=tuple(captions),
        image=np.arange(PAIRS, dtype=np.int64) % len(names),
        caption=np.arange(PAIRS, dtype=np.int64) // 6 % len(captions),
        target=scores.mean(axis=1).astype(np.float32),
        weight=np.full(PAIRS, 3, np.float32),
        scores=scores.astype(np.float32),
        own=np.arange(PAIRS) % 16 == 0,
        left_out={"of unknown captions": 4},
        merged={"duplicates": 7},
    )


def validated(ratings: Ratings, name: str, grouping: Grouping, noise: float) -> HeadResult:
    rng = np.random.default_rng(list(f"{name}{grouping}".encode()))
    predicted = np.clip(ratings.target + noise * rng.normal(size=len(ratings)), 0, 1).astype(np.float32)
    if name == "constant":
        predicted[:] = ratings.target.mean()
    rated = Rated(
        predicted=predicted.astype(np.float64),
        target=ratings.target.astype(np.float64),
        scores=ratings.scores.astype(np.float64),
        own=ratings.own,
        image=ratings.image,
    )
    agreement = measure_agreement(rated, Bootstrap(replicates=10))
    return HeadResult(RECIPES[name], grouping, predicted, agreement, trained_on=1234.0, seconds=5.6)


def study_of(ratings: Ratings, **changes: Any) -> HeadComparison:
    """A comparison of every recipe; `mlp` is the best, and the default."""
    noise = dict.fromkeys(RECIPES, 0.2) | {"mlp": 0.05}
    comparison = HeadComparison(
        ratings=ratings,
        crowd=None,
        results=tuple(validated(ratings, name, grouping, noise[name]) for grouping in GROUPINGS for name in RECIPES),
        learning_curves=tuple(
            LearningPoint(name, pairs, rmse=0.2 + 1 / pairs, spearman=0.6, tau_c=0.4 - 1 / pairs)
            for name in ("cosine", "mlp", "prototype-mlp")
            for pairs in (100, 300, 1000)
        ),
        selection=ModelSelection("mlp", RULE, ("it was better in every replicate",)),
        about={"pack": "compact", "data": {"crowd labels": None, "folds": [1, 2]}, "heads": [{"name": "mlp"}]},
    )
    return dataclasses.replace(comparison, **changes)


def short_study_of(ratings: Ratings, **changes: Any) -> HeadComparison:
    """Of one recipe without learning curves: half of the plots, which take the time."""
    alone = tuple(validated(ratings, "cosine", grouping, 0.2) for grouping in GROUPINGS)
    selection = ModelSelection("cosine", RULE, ())
    return study_of(ratings, **{"results": alone, "learning_curves": (), "selection": selection, **changes})


def written(comparison: HeadComparison, folder: Path, pictures: bool = True) -> tuple[str, str]:
    """The page and the Markdown."""
    write_report(comparison, folder, pictures)
    return (folder / HTML).read_text(encoding="utf-8"), (folder / MARKDOWN).read_text(encoding="utf-8")


def rows_under(markdown: str, title: str) -> list[list[str]]:
    """The cells of the Markdown table with that title, without its header."""
    lines = markdown.split(f"### {title}\n\n")[1].split("\n\n", maxsplit=1)[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


@dataclasses.dataclass(frozen=True)
class Report:
    """A comparison, and what was written of it."""

    comparison: HeadComparison
    page: str
    markdown: str


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What most tests only read."""
    folder = tmp_path_factory.mktemp("report")
    comparison = study_of(ratings_in(folder / "images"))
    return Report(comparison, *written(comparison, folder))


@pytest.fixture
def ratings(tmp_path: Path) -> Ratings:
    """Ratings of images that a test may change or remove."""
    return ratings_in(tmp_path / "images")


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_every_head_stands_in_the_table_of_each_grouping(report: Report, grouping: Grouping) -> None:
    rows = rows_under(report.markdown, f"Grouped by {grouping}")
    table = report.page.split(f"<h3>Grouped by {grouping}</h3>")[1].split("</table>")[0]
    assert len(rows) == len(RECIPES)
    for row, name in zip(rows, RECIPES, strict=True):
        rmse = RMSE.text(report.comparison.of(name, grouping).agreement.figures["rmse"].value)
        assert name in row[0]
        assert rmse in row[1]
        assert f"<bdi>{name}</bdi>" in table
        assert rmse in table


def test_the_strictest_grouping_comes_first(report: Report) -> None:
    for text in (report.page, report.markdown):
        assert 0 < text.index("Grouped by image and caption") < text.index("Grouped by image alone")


def test_a_row_holds_every_figure_with_its_interval_and_its_costs(report: Report) -> None:
    row = next(row for row in rows_under(report.markdown, "Grouped by image") if "prototype-mlp" in row[0])
    found = report.comparison.of("prototype-mlp", "image").agreement.figures
    assert [cell.replace("*", "") for cell in row[1:-2]] == [m.sentence(found[m.name]) for m in MEASURES]
    assert row[-2:] == ["1,234", "5.6"]


def test_the_report_has_every_figure_that_is_measured() -> None:
    assert [measure.name for measure in MEASURES] == list(FIGURES)


def test_the_default_is_named_with_its_rule_and_its_row_is_marked(report: Report) -> None:
    for text in (report.page, report.markdown):
        assert "The default head is mlp" in text
        assert RULE in text
        assert "it was better in every replicate" in text
    for grouping in GROUPINGS:
        marked = [row[0] for row in rows_under(report.markdown, f"Grouped by {grouping}") if "default" in row[0]]
        assert marked == [f"**mlp** (default; {RECIPES['mlp'].about})"]
    assert len(re.findall(r'<tr class="marked">', report.page)) == 3  # in the summary, and under each grouping


def test_the_best_of_a_column_is_marked(report: Report) -> None:
    rows = rows_under(report.markdown, "Grouped by image and caption")
    rmse = {row[0].strip("*").split(" ")[0].strip("*"): row[1] for row in rows}
    assert [name for name, cell in rmse.items() if cell.startswith("**")] == ["mlp"]


def test_the_best_is_the_lowest_error_and_the_highest_correlation() -> None:
    assert RMSE.best([0.3, None, 0.2]) == "0.200"
    assert TAU_C.best([0.3, None, -0.2]) == "30.0"
    assert TAU_C.best([None]) is None


def test_figures_that_are_not_defined_are_a_dash(report: Report) -> None:
    constant = rows_under(report.markdown, "Grouped by image and caption")[0]
    assert constant[0].startswith("constant")
    assert constant[3:9] == [DASH] * 6  # the correlations
    assert constant[1] != DASH
    assert "nan" not in report.markdown.lower()
    assert "None" not in report.markdown


def test_numbers_are_printed_alike() -> None:
    assert decimal(1234.5678) == "1,234.568"
    assert decimal(-0.25, 2) == "\N{MINUS SIGN}0.25"
    assert decimal(-0.0001) == "0.000"
    assert decimal(float("nan")) == decimal(None) == DASH
    assert signed(0.5, 1) == "+0.5"


def test_hostile_captions_names_and_settings_are_only_text(tmp_path: Path) -> None:
    names = [f"<img src=x onerror=y> {i}.png" for i in range(IMAGES)]
    captions = [f"{HOSTILE} {i}" for i in range(CAPTIONS)]
    ratings = ratings_in(tmp_path / "images", names, captions)
    page, markdown = written(study_of(ratings, about={HOSTILE: {HOSTILE: [HOSTILE]}}), tmp_path)
    parsed = Page(page)
    assert not parsed.all("script")
    assert all((attributes["src"] or "").startswith("data:") for attributes in parsed.all("img"))
    assert any(HOSTILE in text for text in parsed.texts)  # it is shown as it is written
    assert any(names[0][:-6] in (attributes["alt"] or "") for attributes in parsed.all("img"))
    assert "<script" not in markdown
    assert "<img" not in markdown
    worst = rows_under(markdown, "The 12 worst misses")
    assert {len(row) for row in worst} == {6}  # a bar in a caption makes no column


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("a|b", r"a\|b"),
        ("a\nb", "a b"),
        ("# heading", r"\# heading"),
        ("- item", r"\- item"),
        ("1. item", r"1\. item"),
        ("0.5 of it", "0.5 of it"),
        ("see http://a.b", "see http&#58;//a.b"),
        ("www.a.b", "www&#46;a.b"),
        ("`x` <b>", r"\`x\` &lt;b&gt;"),
        ("turned \u202e back, broken \ud800", r"turned \\u202e back, broken \\ud800"),
    ],
)
def test_markdown_has_no_markup_of_others(text: str, quoted: str) -> None:
    assert for_markdown(text) == quoted


def test_the_worst_misses_are_shown_worst_first_with_picture_caption_and_raters(report: Report) -> None:
    worst = rows_under(report.markdown, "The 12 worst misses")
    gaps = report.comparison.of("mlp", "image and caption").predicted - report.comparison.ratings.target
    pair = int(np.abs(gaps).argmax())
    assert worst[0][:2] == [f"image {pair % IMAGES}.png", f"caption number {pair // 6 % CAPTIONS}"]
    assert worst[0][2] == ", ".join(f"{1 + 3 * score:.0f}" for score in report.comparison.ratings.scores[pair])
    assert worst[0][-1] == signed(float(gaps[pair]))
    assert len(Page(report.page).images("jpeg")) == len(worst) == 12


def test_thumbnails_are_small(ratings: Ratings, tmp_path: Path) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 1200, 3), np.uint8)).save(tmp_path / "large", "PNG")
    for path in ratings.paths:
        shutil.copy(tmp_path / "large", path)
    page, _ = written(short_study_of(ratings), tmp_path)
    sources = Page(page).images("jpeg")
    assert len(sources) == 12
    assert all(len(source) < 40_000 for source in sources)


def test_without_pictures_neither_image_nor_caption_is_there(ratings: Ratings, tmp_path: Path) -> None:
    for path in ratings.paths:
        path.unlink()  # they are not even opened
    page, markdown = written(short_study_of(ratings), tmp_path, pictures=False)
    for text in (page, markdown):
        assert "data:image/jpeg" not in text
        assert "caption number" not in text
        assert "cannot be read" not in text
        assert "image 3.png" in text


def test_a_broken_or_missing_image_does_not_break_the_report(ratings: Ratings, tmp_path: Path) -> None:
    for path in ratings.paths[::2]:
        path.unlink()
    for path in ratings.paths[1::2]:
        path.write_bytes(path.read_bytes()[:60])
    page, _ = written(short_study_of(ratings), tmp_path)
    assert not Page(page).images("jpeg")
    assert "cannot be read (No such file or directory)" in page
    assert "cannot be decoded" in page
    assert "caption number" in page


def test_the_same_study_gives_the_same_files_and_others_of_the_directory_stay(report: Report, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert written(report.comparison, tmp_path) == (report.page, report.markdown)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_the_page_is_whole_and_asks_for_nothing(report: Report) -> None:
    parsed = Page(report.page)
    assert not parsed.open
    assert not parsed.all("script")
    assert not parsed.all("link")
    for _, attributes in parsed.tags:
        for name in ("src", "href", "xlink:href", "srcset"):
            assert re.match(r"#|data:|$", attributes.get(name) or ""), attributes
    assert not re.search(r"url\(|@import", report.page)
    ids = [attributes["id"] for _, attributes in parsed.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)


def test_every_plot_is_an_image_with_its_words_and_says_what_it_shows(report: Report) -> None:
    plots = Page(report.page).plots()
    heads = ("mlp", "cosine", "prototype-mlp")
    assert len(plots) == 3 + 2 + 2  # reliability, scores by rating, learning
    for shows, svg in plots.items():
        assert svg.rstrip().endswith("</svg>")
        assert "<dc:date>" not in svg
        drawn = [RECIPES[name] for name in heads if name in shows.rpartition(": ")[2].split(", ")]
        assert drawn
        assert all(Line.of(recipe).colour in svg for recipe in drawn)
    learning = next(svg for shows, svg in plots.items() if shows.startswith("RMSE over"))
    assert all(f">{name}</text>" in learning for name in heads)


def test_no_two_heads_look_alike() -> None:
    assert len({Line.of(recipe) for recipe in RECIPES.values()}) == len(RECIPES)


def test_numbers_of_the_plots_stand_in_tables(report: Report) -> None:
    bins = report.comparison.of("mlp", "image and caption").agreement.reliability
    counts = [row[3] for row in rows_under(report.markdown, "Numbers: reliability of mlp")]
    assert counts == [str(one.count) for one in bins]
    by_level = rows_under(report.markdown, "Numbers: scores of cosine by rating")
    assert sum(int(row[1]) for row in by_level) == PAIRS
    assert len(rows_under(report.markdown, "Numbers: learning curves")) == len(report.comparison.learning_curves)


def test_a_head_that_is_far_worse_is_named_rather_than_squeezing_the_others(ratings: Ratings, tmp_path: Path) -> None:
    comparison = study_of(ratings)
    bad = tuple(LearningPoint("prototype-linear", pairs, 42.0, -0.02, -0.01) for pairs in (100, 1000))
    page, _ = written(dataclasses.replace(comparison, learning_curves=comparison.learning_curves + bad), tmp_path)
    assert "off the axis: prototype-linear (RMSE); prototype-linear (tau-c x100)" in page


def test_a_study_without_learning_curves_or_other_heads_has_a_report(ratings: Ratings, tmp_path: Path) -> None:
    page, markdown = written(short_study_of(ratings), tmp_path)
    assert "Learning curves were not measured" in markdown
    assert not Page(page).open


def test_skipped_and_merged_ratings_are_reported_with_their_reason(ratings: Ratings, tmp_path: Path) -> None:
    crowd = dataclasses.replace(ratings, label="crowd.tsv", left_out={}, merged={"contradictions": 2})
    _, markdown = written(short_study_of(ratings, crowd=crowd), tmp_path)
    assert rows_under(markdown, "Rows that were left out or merged") == [
        ["expert.tsv", "left out", "of unknown captions", "4"],
        ["expert.tsv", "merged", "duplicates", "7"],
        ["crowd.tsv", "merged", "contradictions", "2"],
    ]


def test_settings_are_a_list_in_a_list(report: Report) -> None:
    assert (
        f"- pack: compact\n- data:\n  - crowd labels: {DASH}\n  - folds: 1, 2\n- heads:\n  - 1:\n    - name: mlp"
        in (report.markdown)
    )


def test_the_summary_counts_what_was_rated_and_what_the_protocol_leaves(report: Report) -> None:
    assert "180 ratings of 60 pairs (3 raters a pair), of 12 images and 10 captions" in report.markdown
    assert "leaves 56 of 60 pairs" in report.markdown


def test_levels_hold_every_pair_and_its_quantiles() -> None:
    target = np.array([0, 0, 0, 1 / 3, 1], np.float32)
    found = levels(np.array([0.1, 0.2, 0.6, 0.5, 0.9], np.float32), target)
    assert [(level.count, round(level.rated, 3)) for level in found] == [(3, 0), (1, 0.333), (1, 1)]
    assert found[0].quantiles[2] == pytest.approx(0.2)
    assert found[1].quantiles == pytest.approx((0.5,) * 5)


def test_many_levels_are_brought_to_tenths() -> None:
    target = np.linspace(0, 1, 101, dtype=np.float32)
    found = levels(target, target)
    assert len(found) == 11
    assert sum(level.count for level in found) == 101


def test_labels_are_moved_apart_and_no_further() -> None:
    assert apart([0.1, 0.5], 0.1) == pytest.approx([0.1, 0.5])
    assert apart([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])
    placed = apart([0.1, 0.48, 0.5, 0.61, 0.9], 0.1)
    assert min(np.diff(placed)) >= 0.1 - 1e-9
    assert (placed[0], placed[-1]) == (0.1, 0.9)
