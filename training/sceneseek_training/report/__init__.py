"""A study of heads -> `report.html` and `report.md`, for people: the sceptical researcher and the curator.

One report's way: `content` makes of a `sceneseek_training.study.Study` a list of sections (`document`: texts, tables,
plots), with the words of `summary`, the tables of `tables`, the pictures of `plots` and `misses`. `page` and
`markdown` write the same sections down, so both files say the same; only they escape, and they escape
everything. Which figures there are, what they mean and how they are printed stands in `measures` alone.

The page is one file that asks no other for anything: no script, no host. matplotlib is the extra `train`,
imported when the first plot is drawn. The same study gives the same files, byte by byte.
"""

from __future__ import annotations

from pathlib import Path

from sceneseek.files import write_atomic
from sceneseek_training.report import markdown, page
from sceneseek_training.report.content import sections_of
from sceneseek_training.study import Study

HTML, MARKDOWN = "report.html", "report.md"


def write_report(study: Study, directory: Path, pictures: bool = True) -> None:
    """Write both files into a directory, each whole or not at all.

    Args:
        study: what was found; the default head and every head beside it.
        directory: made where it is missing; other files in it stay.
        pictures: whether the worst misses are shown with their images and captions. Without, neither stands in
            the files, which then may be published where the images may not.

    Raises:
        DataError: matplotlib is not installed.
    """
    sections = sections_of(study, pictures)
    files = {HTML: page.render(sections), MARKDOWN: markdown.render(sections)}
    for name, text in files.items():
        write_atomic(directory / name, text.encode("utf-8"))
