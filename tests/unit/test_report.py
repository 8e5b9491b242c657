"""The training report is complete, omits images on request, and escapes all quoted text."""

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
    """A parsed page: its elements, texts and unclosed elements."""

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
        """The data URIs of images of a type, such as ``jpeg``."""
        sources = [attributes["src"] or "" for attributes in self.all("img")]
        return [source for source in sources if source.startswith(f"data:image/{kind}")]

    def plots(self) -> dict[str, str]:
        """The SVG of each plot, by alternative text."""
        return {
            attributes["alt"] or "": base64.b64decode((attributes["src"] or "").partition(",")[2]).decode()
            for attributes in self.all("img")
            if (attributes["src"] or "").startswith("data:image/svg")
        }


def ratings_in(folder: Path, names: list[str] | None = None, captions: list[str] | None = None) -> Ratings:
    """Random ratings by three raters of generated images; every 16th pair is an image with its own caption."""
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


def comparison_of(ratings: Ratings, **changes: Any) -> HeadComparison:
    """A comparison of all recipes, in which `mlp` is the best and the default."""
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


def short_comparison_of(ratings: Ratings, **changes: Any) -> HeadComparison:
    """A comparison of one recipe without learning curves, which halves the slow plotting."""
    alone = tuple(validated(ratings, "cosine", grouping, 0.2) for grouping in GROUPINGS)
    selection = ModelSelection("cosine", RULE, ())
    return comparison_of(ratings, **{"results": alone, "learning_curves": (), "selection": selection, **changes})


def written(comparison: HeadComparison, folder: Path, pictures: bool = True) -> tuple[str, str]:
    """Write the report; return the HTML page and the Markdown."""
    write_report(comparison, folder, pictures)
    return (folder / HTML).read_text(encoding="utf-8"), (folder / MARKDOWN).read_text(encoding="utf-8")


def rows_under(markdown: str, title: str) -> list[list[str]]:
    """The cells of the Markdown table with that title, without its header."""
    lines = markdown.split(f"### {title}\n\n")[1].split("\n\n", maxsplit=1)[0].splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines[2:]]


@dataclasses.dataclass(frozen=True)
class Report:
    """A comparison and its report."""

    comparison: HeadComparison
    page: str
    markdown: str


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """The report of all recipes; tests must not change it."""
    folder = tmp_path_factory.mktemp("report")
    comparison = comparison_of(ratings_in(folder / "images"))
    return Report(comparison, *written(comparison, folder))


@pytest.fixture
def ratings(tmp_path: Path) -> Ratings:
    """Ratings of images that the test may change or remove."""
    return ratings_in(tmp_path / "images")


@pytest.mark.parametrize("grouping", GROUPINGS)
def test_table_of_each_grouping_lists_every_head(report: Report, grouping: Grouping) -> None:
    rows = rows_under(report.markdown, f"Grouped by {grouping}")
    table = report.page.split(f"<h3>Grouped by {grouping}</h3>")[1].split("</table>")[0]
    assert len(rows) == len(RECIPES)
    for row, name in zip(rows, RECIPES, strict=True):
        rmse = RMSE.text(report.comparison.of(name, grouping).agreement.figures["rmse"].value)
        assert name in row[0]
        assert rmse in row[1]
        assert f"<bdi>{name}</bdi>" in table
        assert rmse in table


def test_strictest_grouping_comes_first(report: Report) -> None:
    for text in (report.page, report.markdown):
        assert 0 < text.index("Grouped by image and caption") < text.index("Grouped by image alone")


def test_row_has_every_figure_with_interval_and_costs(report: Report) -> None:
    row = next(row for row in rows_under(report.markdown, "Grouped by image") if "prototype-mlp" in row[0])
    figures = report.comparison.of("prototype-mlp", "image").agreement.figures
    assert [cell.replace("*", "") for cell in row[1:-2]] == [m.sentence(figures[m.name]) for m in MEASURES]
    assert row[-2:] == ["1,234", "5.6"]


def test_report_includes_every_measured_figure() -> None:
    assert [measure.name for measure in MEASURES] == list(FIGURES)


def test_default_head_is_named_with_its_rule_and_marked(report: Report) -> None:
    for text in (report.page, report.markdown):
        assert "The default head is mlp" in text
        assert RULE in text
        assert "it was better in every replicate" in text
    for grouping in GROUPINGS:
        marked = [row[0] for row in rows_under(report.markdown, f"Grouped by {grouping}") if "default" in row[0]]
        assert marked == [f"**mlp** (default; {RECIPES['mlp'].about})"]
    assert len(re.findall(r'<tr class="marked">', report.page)) == 3  # in the summary and under each grouping


def test_best_value_of_a_column_is_marked(report: Report) -> None:
    rows = rows_under(report.markdown, "Grouped by image and caption")
    rmse = {row[0].strip("*").split(" ")[0].strip("*"): row[1] for row in rows}
    assert [name for name, cell in rmse.items() if cell.startswith("**")] == ["mlp"]


def test_best_is_the_lowest_error_and_the_highest_correlation() -> None:
    assert RMSE.best([0.3, None, 0.2]) == "0.200"
    assert TAU_C.best([0.3, None, -0.2]) == "30.0"
    assert TAU_C.best([None]) is None


def test_undefined_figures_are_dashes(report: Report) -> None:
    constant = rows_under(report.markdown, "Grouped by image and caption")[0]
    assert constant[0].startswith("constant")
    assert constant[3:9] == [DASH] * 6  # the correlations
    assert constant[1] != DASH
    assert "nan" not in report.markdown.lower()
    assert "None" not in report.markdown


def test_decimal_and_signed_format_numbers() -> None:
    assert decimal(1234.5678) == "1,234.568"
    assert decimal(-0.25, 2) == "\N{MINUS SIGN}0.25"
    assert decimal(-0.0001) == "0.000"
    assert decimal(float("nan")) == decimal(None) == DASH
    assert signed(0.5, 1) == "+0.5"


def test_hostile_text_is_escaped(tmp_path: Path) -> None:
    names = [f"<img src=x onerror=y> {i}.png" for i in range(IMAGES)]
    captions = [f"{HOSTILE} {i}" for i in range(CAPTIONS)]
    ratings = ratings_in(tmp_path / "images", names, captions)
    page, markdown = written(comparison_of(ratings, about={HOSTILE: {HOSTILE: [HOSTILE]}}), tmp_path)
    parsed = Page(page)
    assert not parsed.all("script")
    assert all((attributes["src"] or "").startswith("data:") for attributes in parsed.all("img"))
    assert any(HOSTILE in text for text in parsed.texts)  # shown as text
    assert any(names[0][:-6] in (attributes["alt"] or "") for attributes in parsed.all("img"))
    assert "<script" not in markdown
    assert "<img" not in markdown
    worst = rows_under(markdown, "The 12 worst misses")
    assert {len(row) for row in worst} == {6}  # a vertical bar in a caption adds no column


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
def test_for_markdown_escapes_markup(text: str, quoted: str) -> None:
    assert for_markdown(text) == quoted


def test_worst_misses_are_listed_with_image_caption_and_ratings(report: Report) -> None:
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
    page, _ = written(short_comparison_of(ratings), tmp_path)
    sources = Page(page).images("jpeg")
    assert len(sources) == 12
    assert all(len(source) < 40_000 for source in sources)


def test_report_without_pictures_has_no_images_or_captions(ratings: Ratings, tmp_path: Path) -> None:
    for path in ratings.paths:
        path.unlink()  # must not be opened
    page, markdown = written(short_comparison_of(ratings), tmp_path, pictures=False)
    for text in (page, markdown):
        assert "data:image/jpeg" not in text
        assert "caption number" not in text
        assert "cannot be read" not in text
        assert "image 3.png" in text


def test_report_survives_broken_and_missing_images(ratings: Ratings, tmp_path: Path) -> None:
    for path in ratings.paths[::2]:
        path.unlink()
    for path in ratings.paths[1::2]:
        path.write_bytes(path.read_bytes()[:60])
    page, _ = written(short_comparison_of(ratings), tmp_path)
    assert not Page(page).images("jpeg")
    assert "cannot be read (No such file or directory)" in page
    assert "cannot be decoded" in page
    assert "caption number" in page


def test_report_is_reproducible_and_keeps_other_files(report: Report, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert written(report.comparison, tmp_path) == (report.page, report.markdown)
    assert (tmp_path / "notes.txt").read_text(encoding="utf-8") == "mine"


def test_page_is_well_formed_and_self_contained(report: Report) -> None:
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


def test_plots_have_alternative_text_and_show_their_heads(report: Report) -> None:
    plots = Page(report.page).plots()
    heads = ("mlp", "cosine", "prototype-mlp")
    assert len(plots) == 3 + 2 + 2  # reliability, scores by rating, learning
    for alt, svg in plots.items():
        assert svg.rstrip().endswith("</svg>")
        assert "<dc:date>" not in svg
        recipes = [RECIPES[name] for name in heads if name in alt.rpartition(": ")[2].split(", ")]
        assert recipes
        assert all(Line.of(recipe).colour in svg for recipe in recipes)
    learning = next(svg for alt, svg in plots.items() if alt.startswith("RMSE over"))
    assert all(f">{name}</text>" in learning for name in heads)


def test_heads_have_distinct_plot_styles() -> None:
    assert len({Line.of(recipe) for recipe in RECIPES.values()}) == len(RECIPES)


def test_plotted_numbers_are_in_tables(report: Report) -> None:
    bins = report.comparison.of("mlp", "image and caption").agreement.reliability
    counts = [row[3] for row in rows_under(report.markdown, "Numbers: reliability of mlp")]
    assert counts == [str(each.count) for each in bins]
    by_level = rows_under(report.markdown, "Numbers: scores of cosine by rating")
    assert sum(int(row[1]) for row in by_level) == PAIRS
    assert len(rows_under(report.markdown, "Numbers: learning curves")) == len(report.comparison.learning_curves)


def test_outlier_head_is_named_off_the_axis(ratings: Ratings, tmp_path: Path) -> None:
    comparison = comparison_of(ratings)
    bad = tuple(LearningPoint("prototype-linear", pairs, 42.0, -0.02, -0.01) for pairs in (100, 1000))
    page, _ = written(dataclasses.replace(comparison, learning_curves=comparison.learning_curves + bad), tmp_path)
    assert "off the axis: prototype-linear (RMSE); prototype-linear (tau-c x100)" in page


def test_report_without_learning_curves_is_valid(ratings: Ratings, tmp_path: Path) -> None:
    page, markdown = written(short_comparison_of(ratings), tmp_path)
    assert "Learning curves were not measured" in markdown
    assert not Page(page).open


def test_excluded_and_merged_ratings_are_listed_with_reasons(ratings: Ratings, tmp_path: Path) -> None:
    crowd = dataclasses.replace(ratings, label="crowd.tsv", left_out={}, merged={"contradictions": 2})
    _, markdown = written(short_comparison_of(ratings, crowd=crowd), tmp_path)
    assert rows_under(markdown, "Rows left out or merged") == [
        ["expert.tsv", "left out", "of unknown captions", "4"],
        ["expert.tsv", "merged", "duplicates", "7"],
        ["crowd.tsv", "merged", "contradictions", "2"],
    ]


def test_settings_are_nested_lists(report: Report) -> None:
    assert (
        f"- pack: compact\n- data:\n  - crowd labels: {DASH}\n  - folds: 1, 2\n- heads:\n  - 1:\n    - name: mlp"
        in (report.markdown)
    )


def test_summary_counts_ratings_and_pairs_of_the_protocol(report: Report) -> None:
    assert "180 ratings of 60 pairs (3 raters per pair), of 12 images and 10 captions" in report.markdown
    assert "leaves 56 of 60 pairs" in report.markdown


def test_levels_count_pairs_and_compute_quantiles() -> None:
    target = np.array([0, 0, 0, 1 / 3, 1], np.float32)
    result = levels(np.array([0.1, 0.2, 0.6, 0.5, 0.9], np.float32), target)
    assert [(level.count, round(level.rated, 3)) for level in result] == [(3, 0), (1, 0.333), (1, 1)]
    assert result[0].quantiles[2] == pytest.approx(0.2)
    assert result[1].quantiles == pytest.approx((0.5,) * 5)


def test_many_levels_are_grouped_into_tenths() -> None:
    target = np.linspace(0, 1, 101, dtype=np.float32)
    result = levels(target, target)
    assert len(result) == 11
    assert sum(level.count for level in result) == 101


def test_apart_separates_labels_with_minimal_moves() -> None:
    assert apart([0.1, 0.5], 0.1) == pytest.approx([0.1, 0.5])
    assert apart([0.5, 0.5, 0.5], 0.1) == pytest.approx([0.4, 0.5, 0.6])
    placed = apart([0.1, 0.48, 0.5, 0.61, 0.9], 0.1)
    assert min(np.diff(placed)) >= 0.1 - 1e-9
    assert (placed[0], placed[-1]) == (0.1, 0.9)
