"""An answer as a person reads it on a terminal: a line for each result, and what is to be said beside them."""

from __future__ import annotations

from collections.abc import Iterator

from sceneseek.client import Answer, Explanation, Query, Result
from sceneseek.errors import one_line


def listing(query: Query, answer: Answer) -> Iterator[str]:
    """Rank, score and name of each result; with an image its similarity, which is what the order is by."""
    for result in answer.results:
        value = result.similarity if query.image is not None or result.score is None else result.score
        folded = f"  (+{result.duplicates} similar)" if result.duplicates and not query.keep_duplicates else ""
        yield f"{result.rank:2d}  {value:.2f}  {_name(result)}{folded}"
        if result.explanation is not None:
            yield f"    {_explained(result.explanation)}"


def remarks(answer: Answer) -> tuple[list[str], list[str]]:
    """What is to be known before the results are read, and after."""
    before, after = [], []
    if not answer.results:
        before.append("nothing was found")
    elif answer.match is False:
        before.append("nothing matches well; the nearest are:")
    if not answer.calibrated and answer.query is not None:
        after.append("note: the scores are not calibrated: read them as an order only")
    if answer.truncated:
        after.append("note: the query is longer than the text tower reads; its end was ignored")
    return before, after


def _name(result: Result) -> str:
    """Its path, or where a service keeps that to itself its title, or its id. Escaped: a service may send anything."""
    title = result.metadata.get("title")
    return one_line(result.path or (title if isinstance(title, str) else "") or result.id)


def _explained(explanation: Explanation) -> str:
    similarities = [("text", explanation.text_similarity), ("image", explanation.image_similarity)]
    parts = [f"{similarity:.2f} to the {what}" for what, similarity in similarities if similarity is not None]
    return f"neighbour {explanation.rank_before}; similarity {', '.join(parts)}"
