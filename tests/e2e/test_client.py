"""`sceneseek.client` and `sceneseek search --url` against a real service, compared with a local search."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sceneseek.bundle import Bundle
from sceneseek.cli import main
from sceneseek.client import Client, Query, Term
from sceneseek.errors import Conflict, ImageError, InvalidRequest, NotFound
from tests.drawing import NAMES
from tests.played_service import ANSWER, answering, playing, problem

NOBODY = "00000000-0000-5000-8000-000000000000"
NEAREST = "nothing matches well; the nearest are:"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run `sceneseek search` in this process; return the exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["sceneseek", "search", *arguments])
        code = 0
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
        printed = capsys.readouterr()
        return code, printed.out, printed.err

    return call


@pytest.fixture(scope="module")
def client(service_url: str) -> Iterator[Client]:
    with Client(service_url, timeout=60) as client:
        yield client


def test_search_returns_results_with_retrievable_images(client: Client) -> None:
    answer = client.search("a red circle", k=3)
    assert (answer.query, answer.offset, answer.next_offset) == ("a red circle", 0, 3)
    assert [result.rank for result in answer.results] == [1, 2, 3]
    best = answer.results[0]
    assert best.score is not None
    assert 0 <= best.score <= 1
    assert best.explanation is None
    with Image.open(io.BytesIO(client.image(best.id))) as image:
        assert (image.size, image.format) == ((best.width, best.height), best.format)
    assert client.thumbnail(best.id)[:2] == b"\xff\xd8"
    assert client.details(best.id).format == best.format
    assert client.details(best.id).image == best.image


def test_search_sends_every_argument(client: Client) -> None:
    every = client.search("the sea", k=12, keep_duplicates=True)
    page = client.search("the sea", k=12, offset=2, shortlist=50, explain=True, keep_duplicates=True)
    assert [result.id for result in page.results] == [result.id for result in every.results[2:]]
    explanation = page.results[0].explanation
    assert explanation is not None
    assert explanation.rank_after == 3
    assert explanation.text_similarity == pytest.approx(page.results[0].similarity, abs=1e-5)
    least = (every.results[1].score or 0) - 1e-5  # answers round scores
    best = client.search("the sea", k=12, min_score=least, keep_duplicates=True).results
    assert [result.id for result in best] == [r.id for r in every.results if r.score is not None and r.score >= least]


@pytest.mark.parametrize(
    "where",
    [
        "format=JPEG",
        ["format=JPEG", "width>=100"],
        {"all": [{"field": "format", "equals": "JPEG"}, {"field": "width", "gte": 100}]},
    ],
)
def test_search_accepts_filters_as_expressions_or_conditions(client: Client, where: Any) -> None:
    results = client.search("the sea", k=12, filter=where).results
    assert len(results) == sum(name.endswith(".jpg") for name in NAMES)
    assert {result.format for result in results} == {"JPEG"}


def test_search_accepts_an_image_as_id_path_or_bytes(client: Client, gallery: Path) -> None:
    sea = client.search("the sea").results[0]
    by_id = client.search(image=sea.id, k=3)
    assert by_id.query is None
    assert sea.id not in [result.id for result in by_id.results]
    assert [result.score for result in by_id.results] == [None] * 3
    file = gallery / "scenes/sea.jpg"
    by_file = client.search("at night", image=file, k=3, text_weight=0.4, filter=["width>=1", "height>=1"])
    by_bytes = client.search("at night", image=file.read_bytes(), k=3, text_weight=0.4)
    assert [result.id for result in by_file.results] == [result.id for result in by_bytes.results]
    assert by_file.query == "at night"


def test_plus_and_minus_accept_texts_ids_paths_and_bytes(client: Client, gallery: Path) -> None:
    sea, file = client.search("the sea").results[0], gallery / "scenes/sea.jpg"
    answer = client.search("a drawing", plus=["at night", (file, 0.5)], minus=[sea.id, (file.read_bytes(), 0.25)], k=12)
    assert answer.query == "a drawing, at night"
    assert sea.id not in [result.id for result in answer.results]
    terms = [Term(text="at night"), Term(file=0, weight=0.5), Term(image=sea.id, weight=-1), Term(file=1, weight=-0.25)]
    same = client.ask(Query("a drawing", terms=terms, k=12), [file, file])
    assert [result.id for result in same.results] == [result.id for result in answer.results]
    by_vector = client.search(vector=[1.0, *[0.0] * (client.collections().collections[0].dimensions - 1)], k=2)
    assert [result.score for result in by_vector.results] == [None, None]


def test_search_many_uses_one_generation(client: Client) -> None:
    answers = client.search_many(["a red circle", Query("the sea", k=2), Query(image=client.search("x").results[0].id)])
    assert [answer.query for answer in answers] == ["a red circle", "the sea", None]
    assert len(answers[1].results) == 2
    assert len({answer.generation for answer in answers}) == 1
    with pytest.raises(InvalidRequest, match="the query is empty"):
        client.search_many(["a red circle", " "])


def test_pages_contain_every_result_once(client: Client) -> None:
    query = Query("a red circle", k=5, keep_duplicates=True)
    pages = list(client.pages(query))
    assert [len(page.results) for page in pages] == [5, 5, 2]
    results = list(client.results(query))
    assert [result.rank for result in results] == list(range(1, len(NAMES) + 1))
    assert len({result.id for result in results}) == len(NAMES)
    assert len(list(client.results("a red circle"))) <= len(NAMES)


def test_score_accepts_image_ids_and_files(client: Client, gallery: Path) -> None:
    results = client.search("a red circle", k=2).results
    scores = client.score("a red circle", [result.id for result in results])
    assert [scored.id for scored in scores.scores] == [result.id for result in results]
    assert [scored.score for scored in scores.scores] == pytest.approx([result.score for result in results], abs=1e-4)
    files: list[Path | bytes] = [gallery / "shapes/red circle.png", (gallery / "scenes/sea.jpg").read_bytes()]
    assert [scored.id for scored in client.score("a red circle", files).scores] == [None, None]


def test_embed_returns_searchable_vectors_of_texts_and_images(client: Client, gallery: Path) -> None:
    file = gallery / NAMES[0]
    (text, other), (picture,) = client.embed(["a red circle", "a cat"]), client.embed([file])
    assert len({len(vector) for vector in (text, other, picture)}) == 1
    assert sum(number**2 for number in text) == pytest.approx(1, abs=1e-5)
    assert client.search(vector=picture).results[0].similarity > 0.99
    neither: tuple[list[Any], ...] = ([], [file, "a cat"])
    for inputs in neither:
        with pytest.raises(InvalidRequest):
            client.embed(inputs)


def test_collections_and_ready_describe_the_live_generation(client: Client) -> None:
    collections = client.collections()
    (collection,) = collections.collections
    assert (collection.name, collection.live, collection.images) == (collections.live, True, len(NAMES))
    ready = client.ready()
    assert (ready.generation, ready.images, ready.pack, ready.problem) == (
        collection.name,
        len(NAMES),
        collections.pack,
        None,
    )


def test_feedback_is_stored_once_per_key(client: Client) -> None:
    image = client.search("a red circle").results[0].id
    first = client.feedback("a red circle", image, 4, rater="me")
    assert first.stored
    assert not client.feedback("a red circle", image, 4, rater="me", key=first.key).stored
    with pytest.raises(Conflict):
        client.feedback("a red circle", image, 1, rater="me", key=first.key)
    with pytest.raises(InvalidRequest, match="rating is 5: rate from 1"):
        client.feedback("a red circle", image, 5)


def test_service_errors_raise_exceptions(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="k is 0: ask for 1 to"):
        client.search("a dog", k=0)
    with pytest.raises(InvalidRequest, match="the field q is missing"):
        client.search()
    for missing in (client.image, client.thumbnail, client.details, lambda id_: client.search(image=id_)):
        with pytest.raises(NotFound, match=NOBODY):
            missing(NOBODY)
    with pytest.raises(ImageError, match="the picture: not an image of a known format"):
        client.search(image=b"words")


@pytest.mark.parametrize(
    "options",
    [
        ["a red circle", "-k", "3", "--explain"],
        ["the sea", "--offset", "2", "--where", "format=JPEG|PNG", "--keep-duplicates", "--shortlist", "20"],
        ["a red circle", "--min-score", "0.15", "-k", "12"],
        ["at night", "--image", "FILE", "--text-weight", "0.4", "--where", "width>=1"],
        ["--image", "FILE"],
        ["--image", "ID", "-k", "2"],
        ["a drawing", "--plus", "the sea:0.5", "--minus", "FILE", "--plus", "ID", "-k", "12"],
        ["a red circle", "--image", "FILE", "--minus", "FILE", "--sort=-width", "-k", "4"],
    ],
)
def test_cli_prints_the_same_results_with_url_as_with_a_local_index(
    run: Run, client: Client, service_url: str, bundle: Bundle, index_url: str, gallery: Path, options: list[str]
) -> None:
    known = {"FILE": str(gallery / "scenes/meadow.webp"), "ID": client.search("the sea").results[0].id}
    arguments = [known.get(option, option) for option in options]
    code, local_output, _ = run(*arguments, "--json", "--bundle", str(bundle.path), "--index", index_url)
    assert code == 0
    code, remote_output, _ = run(*arguments, "--json", "--url", service_url, "--timeout", "60")
    assert code == 0
    local, remote = json.loads(local_output), json.loads(remote_output)
    assert [*local] == [*remote]
    # Only a service returns URLs, and this one hides paths.
    differing_fields = {"path", "image", "thumbnail"}
    for local_result, remote_result in zip(local["results"], remote["results"], strict=True):
        assert local_result.keys() ^ remote_result.keys() == differing_fields
    assert _comparable(local) == _comparable(remote)
    assert local["results"]


def test_cli_prints_one_line_per_result(run: Run, client: Client, service_url: str) -> None:
    code, output, _ = run("a red circle", "-k", "2", "--explain", "--url", service_url)
    first, explained, *_ = output.splitlines()
    best = client.search("a red circle", k=2).results[0]
    assert code == 0
    assert first == f" 1  {best.score:.2f}  {best.path or best.id}"
    assert explained == f"    neighbour 1; similarity {best.similarity:.2f} to the text"


@pytest.mark.parametrize(
    ("options", "message", "code"),
    [
        (["a dog", "--url", "SERVICE", "--where", "format"], "the condition 'format' has no comparison", 2),
        (["--image", NOBODY, "--url", "SERVICE"], f"no image has the id {NOBODY}", 1),
        (["--image", "none.jpg", "--url", "SERVICE"], "the picture none.jpg cannot be read", 1),
        (["a dog", "--url", "http://127.0.0.1:9"], "nothing answers at http://127.0.0.1:9", 1),
        (["a dog", "--url", "localhost"], "'localhost' is not the address of a service", 2),
        (["a dog", "--url", "SERVICE", "--index", "file:x"], "--index cannot be used with --url", 2),
        (["a dog", "--url", "SERVICE", "--bundle", "x"], "--bundle cannot be used with --url", 2),
        (["a dog", "--timeout", "3"], "--timeout requires --url", 2),
        (["a dog", "--url", "SERVICE", "--key-file", "none"], "the key file none cannot be read", 1),
        ([], "there is neither QUERY nor --image", 2),
    ],
)
def test_cli_prints_errors_on_one_line(
    run: Run, service_url: str, options: list[str], message: str, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCENESEEK_INDEX", "file:of-other-calls")
    failed, printed, errors = run(*(service_url if option == "SERVICE" else option for option in options))
    assert (failed, printed) == (code, "")
    (line,) = errors.splitlines()
    assert line.startswith("error: ")
    assert message in line


def test_cli_reads_the_api_key_from_the_key_file_or_the_environment(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("sceneseek_of_a_file\n")
    monkeypatch.setenv("SCENESEEK_API_KEY", "sceneseek_of_the_environment")
    with playing(answering(ANSWER)) as service:
        assert run("a dog", "--url", service.url)[0] == 0
        assert run("a dog", "--url", service.url, "--key-file", str(tmp_path / "key"))[0] == 0
        keys = [asked.headers["Authorization"] for asked in service.asked]
    assert keys == ["Bearer sceneseek_of_the_environment", "Bearer sceneseek_of_a_file"]


def test_cli_names_key_options_when_the_key_is_missing(run: Run) -> None:
    with playing(problem(401, "unauthorized", detail="an API key is required", hint="send a header")) as service:
        message = "error: an API key is required: give its key in a file with --key-file, or in SCENESEEK_API_KEY\n"
        assert run("a dog", "--url", service.url) == (1, "", message)


def test_cli_warns_when_nothing_matches(run: Run) -> None:
    with playing(answering({**ANSWER, "match": False}), answering({**ANSWER, "results": []})) as service:
        assert run("a dog", "--url", service.url) == (0, " 1  1.00  A dog\n", f"{NEAREST}\n")
        assert run("a dog", "--url", service.url) == (0, "", "nothing was found\n")


def _comparable(answer: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that only one side has and the timings; numbers as rounded by the service."""
    left_out = {"path", "image", "thumbnail"}
    results = [
        {name: _rounded(value) for name, value in result.items() if name not in left_out}
        for result in answer["results"]
    ]
    return {**answer, "results": results, "timings_ms": None}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    return pytest.approx(value, abs=1e-5) if isinstance(value, float) else value
