"""`/v1/feedback`: ratings are stored before the response, once per key, and can be read for training."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from sceneseek.payload import point_id
from sceneseek.search import Search
from sceneseek_evaluation.rating_files import read_feedback
from sceneseek_server.app import create_app
from sceneseek_server.feedback import FeedbackStore, export_lines
from tests.drawing import NAMES

PATH = "/v1/feedback"
RATING = {"query": "a red circle", "image": point_id(NAMES[0]), "rating": 4}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "feedback.sqlite"


@pytest.fixture
def feedback_client(search: Search, file: Path) -> Iterator[FlaskClient]:
    """The client of a service that stores ratings."""
    store = FeedbackStore(file)
    yield create_app(search, feedback=store).test_client()
    store.close()


def test_exported_ratings_are_readable_for_training(
    feedback_client: FlaskClient, file: Path, gallery: Path, tmp_path: Path
) -> None:
    response = feedback_client.post(PATH, json={**RATING, "query": "  a red\tcircle ", "rater": "ada"})
    assert response.status_code == 201
    assert response.get_json()["stored"] is True
    assert feedback_client.post(PATH, json={**RATING, "image": point_id(NAMES[1]), "rating": 1}).status_code == 201
    (tmp_path / "ratings.jsonl").write_text("\n".join(export_lines(file)), encoding="utf-8")
    ratings = read_feedback(tmp_path / "ratings.jsonl", gallery)
    assert set(ratings.names) == {NAMES[0], NAMES[1]}


def test_repeated_rating_with_the_same_key_is_stored_once(feedback_client: FlaskClient, file: Path) -> None:
    first = feedback_client.post(PATH, json={**RATING, "key": "one"})
    again = feedback_client.post(PATH, json={**RATING, "key": "one"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert (first.get_json(), again.get_json()) == ({"stored": True, "key": "one"}, {"stored": False, "key": "one"})
    assert len(list(export_lines(file))) == 1
    other = feedback_client.post(PATH, json={**RATING, "rating": 1, "key": "one"})
    assert (other.status_code, other.content_type) == (409, "application/problem+json")


@pytest.mark.parametrize(
    ("change", "status", "detail"),
    [
        ({"rating": 5}, 400, "rating is 5"),
        ({"rating": "4"}, 400, "rating is '4', which is not a whole number"),
        ({"rating": True}, 400, "rating is true, which is not a whole number"),
        ({"image": "a.jpg"}, 400, "image is 'a.jpg', which is not an id"),
        ({"image": point_id("no")}, 404, f"no image has the id {point_id('no')}"),
        ({"query": " "}, 400, "the query is empty"),
        ({"rater": ""}, 400, "rater is '', which is not a short text"),
        ({"path": "a.jpg"}, 400, "the field 'path' is unknown"),
    ],
)
def test_invalid_rating_is_rejected(
    feedback_client: FlaskClient, file: Path, change: dict[str, Any], status: int, detail: str
) -> None:
    response = feedback_client.post(PATH, json={**RATING, **change})
    assert (response.status_code, response.get_json(force=True)["detail"]) == (status, detail)
    assert not list(export_lines(file))


def test_service_without_a_feedback_file_names_the_option(client: FlaskClient) -> None:
    problem = client.post(PATH, json=RATING).get_json(force=True)
    assert (problem["status"], problem["detail"]) == (404, "this service does not store ratings")
    assert "--feedback" in problem["hint"]
