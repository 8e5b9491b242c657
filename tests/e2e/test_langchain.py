"""The vector store and the chain of docs/how-to/langchain.md against a real service."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import re
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import ROOT

models: Any = pytest.importorskip(
    "langchain_core.language_models.fake_chat_models", reason="langchain-core is not installed (the extra dev has it)"
)
GUIDE = (ROOT / "docs/how-to/langchain.md").read_text(encoding="utf-8")
# The third needs langchain-openai, whose only call is that of the OpenAI client: see test_openai.py.
STORE, CHAIN, _ = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.MULTILINE | re.DOTALL)
QUERY = "a red circle"


@pytest.fixture
def example(service_url: str) -> Iterator[dict[str, Any]]:
    """The names that the page defines, with a model that echoes its input, and the output as `printed`."""
    names: dict[str, Any] = {"model": models.ParrotFakeChatModel()}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for code in (STORE, CHAIN):
            exec(code.replace("http://127.0.0.1:8080", service_url), names)  # noqa: S102 - the code that readers run
    yield {**names, "printed": printed.getvalue()}
    names["pictures"].client.close()


def test_example_prints_scores_and_urls(example: dict[str, Any], service_url: str) -> None:
    lines = example["printed"].splitlines()
    assert len(lines) == 3
    assert all(re.fullmatch(rf"0\.\d\d \S+ {service_url.rstrip('/')}/v1/images/\S+", line) for line in lines)


def test_similarity_search_orders_documents_by_score(example: dict[str, Any]) -> None:
    pictures = example["pictures"]
    results = pictures.similarity_search_with_relevance_scores(QUERY, k=5)
    scores = [score for _, score in results]
    assert scores == sorted(scores, reverse=True)
    assert [document for document, _ in results] == pictures.similarity_search(QUERY, k=5)
    expected = pictures.client.search(QUERY, k=5).results
    assert [(document.id, score) for document, score in results] == [(result.id, result.score) for result in expected]
    assert pictures.client.image(results[0][0].id)


def test_retrievers_apply_score_thresholds(example: dict[str, Any]) -> None:
    every = example["pictures"].similarity_search(QUERY, k=5)
    least = every[1].metadata["score"] - 1e-5  # answers round scores
    expected = [document for document in every if document.metadata["score"] >= least]
    assert len(expected) < len(every)
    threshold = {"search_type": "similarity_score_threshold", "search_kwargs": {"k": 5, "score_threshold": least}}
    for retriever in (
        example["pictures"].as_retriever(**threshold),
        example["pictures"].as_retriever(search_kwargs={"k": 5, "min_score": least}),
    ):
        assert retriever.invoke(QUERY) == expected
        assert asyncio.run(retriever.ainvoke(QUERY)) == expected


def test_vector_search_returns_documents_without_scores(example: dict[str, Any], service_url: str) -> None:
    client = pytest.importorskip("openai").OpenAI(base_url=f"{service_url.rstrip('/')}/v1", api_key="none")
    with client:
        (embedded,) = client.embeddings.create(model="compact", input=QUERY).data
    documents = example["pictures"].similarity_search_by_vector(embedded.embedding, k=2)
    assert [document.metadata["score"] for document in documents] == [None, None]
    best = example["pictures"].client.search(vector=embedded.embedding, k=2).results
    assert [document.id for document in documents] == [result.id for result in best]


def test_chain_passes_the_found_images_to_the_model(example: dict[str, Any]) -> None:
    question, *shown = example["answer"].content
    assert question["text"] == "What else is in these pictures?"
    assert len(shown) == 3
    assert all(base64.b64decode(picture["base64"]).startswith(b"\xff\xd8") for picture in shown)
