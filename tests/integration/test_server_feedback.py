"""`/v1/feedback`: stored before it is answered, once a key, and read by training."""

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

WHERE = "/v1/feedback"
RATING = {"query": "a red circle", "image": point_id(NAMES[0]), "rating": 4}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "feedback.sqlite"


@pytest.fixture
def rating(search: Search, file: Path) -> Iterator[FlaskClient]:
    """The client of a service that stores ratings."""
    store = FeedbackStore(file)
    yield create_app(search, feedback=store).test_client()
    store.close()


def test_an_answered_rating_is_in_the_export_that_training_reads(
    rating: FlaskClient, file: Path, gallery: Path, tmp_path: Path
) -> None:
    response = rating.post(WHERE, json={**RATING, "query": "  a red\tcircle ", "rater": "ada"})
    assert response.status_code == 201
    assert response.get_json()["stored"] is True
    assert rating.post(WHERE, json={**RATING, "image": point_id(NAMES[1]), "rating": 1}).status_code == 201
    (tmp_path / "ratings.jsonl").write_text("\n".join(export_lines(file)), encoding="utf-8")
    ratings = read_feedback(tmp_path / "ratings.jsonl", gallery)
    assert set(ratings.names) == {NAMES[0], NAMES[1]}


def test_a_rating_sent_again_under_its_key_is_stored_once(rating: FlaskClient, file: Path) -> None:
    first = rating.post(WHERE, json={**RATING, "key": "one"})
    again = rating.post(WHERE, json={**RATING, "key": "one"})
    assert (first.status_code, again.status_code) == (201, 200)
    assert (first.get_json(), again.get_json()) == ({"stored": True, "key": "one"}, {"stored": False, "key": "one"})
    assert len(list(export_lines(file))) == 1
    other = rating.post(WHERE, json={**RATING, "rating": 1, "key": "one"})
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
def test_a_malformed_rating_is_rejected(
    rating: FlaskClient, file: Path, change: dict[str, Any], status: int, detail: str
) -> None:
    response = rating.post(WHERE, json={**RATING, **change})
    assert (response.status_code, response.get_json(force=True)["detail"]) == (status, detail)
    assert not list(export_lines(file))


def test_a_service_without_a_file_of_ratings_says_how_to_get_one(client: FlaskClient) -> None:
    problem = client.post(WHERE, json=RATING).get_json(force=True)
    assert (problem["status"], problem["detail"]) == (404, "this service keeps no ratings")
    assert "--feedback" in problem["hint"]
