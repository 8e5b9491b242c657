"""Feedback store: durable writes, idempotency keys, and export in the format that training reads."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sceneseek.errors import Conflict, FeedbackUnavailable, InvalidRequest, NotFound
from sceneseek_evaluation.rating_files import read_feedback
from sceneseek_server.command import feedback as feedback_command
from sceneseek_server.feedback import Feedback, FeedbackStore, export_lines, feedback_path

ROOT = Path(__file__).parents[2]
RATING = Feedback("a dog in the snow", "winter/dog.jpg", 4, rater="ann", key="k1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ratings" / "feedback.sqlite"


@pytest.fixture
def store(path: Path) -> Iterator[FeedbackStore]:
    opened = FeedbackStore(path)
    yield opened
    opened.close()


def documents(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in export_lines(path)]


def test_export_is_readable_by_training(store: FeedbackStore, path: Path, tmp_path: Path) -> None:
    (tmp_path / "winter").mkdir()
    (tmp_path / "winter" / "dog.jpg").touch()
    assert store.append(replace(RATING, query="  a dog\tin the snow ")) == "stored"
    assert store.append(Feedback("a cat", "winter/dog.jpg", 1)) == "stored"
    first, second = documents(path)
    assert first.pop("at").endswith("+00:00")
    expected = {"query": "a dog in the snow", "image": "winter/dog.jpg", "rating": 4, "rater": "ann", "key": "k1"}
    assert first == expected
    assert second.keys() == {"query", "image", "rating", "at"}
    exported = CliRunner().invoke(feedback_command, ["export", "--feedback", str(path)], catch_exceptions=False)
    (tmp_path / "ratings.jsonl").write_text(exported.output, encoding="utf-8")
    ratings = read_feedback(tmp_path / "ratings.jsonl", tmp_path)
    assert (ratings.captions, ratings.target.tolist()) == (("a dog in the snow", "a cat"), [1.0, 0.0])


def test_export_rejects_missing_or_invalid_file(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no file of ratings"):
        list(export_lines(tmp_path / "nowhere.sqlite"))
    (tmp_path / "text").write_text("no database " * 100)
    with pytest.raises(FeedbackUnavailable, match="not a database"):
        list(export_lines(tmp_path / "text"))
    without = CliRunner().invoke(feedback_command, ["export", "--index", "http://qdrant:6333"])
    assert (without.exit_code, "give --feedback FILE" in without.output) == (2, True)


def test_file_is_readable_only_by_owner(store: FeedbackStore, path: Path) -> None:
    store.append(RATING)
    assert {file.name: file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {
        "feedback.sqlite": 0o600,
        "feedback.sqlite-shm": 0o600,
        "feedback.sqlite-wal": 0o600,
    }


@pytest.mark.parametrize("query", ["ein Hund läuft", "собака 🐕", 'a "quoted" \\ one', "a dog"])
def test_query_is_exported_unchanged(store: FeedbackStore, path: Path, query: str) -> None:
    store.append(replace(RATING, query=query))
    assert documents(path)[0]["query"] == query


def test_undecodable_file_name_is_exported_unchanged(store: FeedbackStore, path: Path) -> None:
    rating = replace(RATING, image="caf\udce9.jpg")
    assert [store.append(rating) for _ in range(2)] == ["stored", "repeated"]
    assert documents(path)[0]["image"] == "caf\udce9.jpg"
    assert "".join(export_lines(path)).isascii()


@pytest.mark.parametrize(
    "changed",
    [
        {"query": " "},
        {"query": "a\0b"},
        {"image": "../outside.jpg"},
        {"image": "/etc/passwd"},
        {"image": ""},
        {"rating": 0},
        {"rating": 5},
        {"rating": True},
        {"rating": 2.5},
        {"rater": "a\nb"},
        {"key": "k" * 201},
        {"key": "\ud800"},
    ],
)
def test_invalid_rating_is_rejected(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        replace(RATING, **changed)


def test_rating_with_same_key_is_stored_once_across_restarts(path: Path) -> None:
    for expected in ("stored", "repeated", "repeated"):
        store = FeedbackStore(path)
        assert store.append(RATING) == expected
        assert store.append(replace(RATING, query=" a dog  in the snow")) == "repeated"
        store.close()
    assert len(documents(path)) == 1


@pytest.mark.parametrize(
    "changed", [{"rating": 3}, {"query": "a cat"}, {"image": "x.jpg"}, {"rater": ""}, {"source": "b"}]
)
def test_different_rating_with_same_key_is_conflict(store: FeedbackStore, path: Path, changed: dict[str, Any]) -> None:
    store.append(RATING)
    with pytest.raises(Conflict) as caught:
        store.append(replace(RATING, **changed))
    assert caught.value.status == 409
    assert len(documents(path)) == 1


def test_ratings_without_key_are_all_stored(store: FeedbackStore, path: Path) -> None:
    assert [store.append(replace(RATING, key="")) for _ in range(3)] == ["stored"] * 3
    assert len(documents(path)) == 3


def test_concurrent_stores_can_write_one_file(store: FeedbackStore, path: Path) -> None:
    other = FeedbackStore(path)
    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(lambda i: (store, other)[i % 2].append(replace(RATING, key=f"k{i}")), range(40)))
    other.close()
    assert outcomes == ["stored"] * 40
    assert {document["key"] for document in documents(path)} == {f"k{i}" for i in range(40)}


def test_rating_sent_by_concurrent_threads_is_stored_once(store: FeedbackStore, path: Path) -> None:
    ready = threading.Barrier(8)

    def send(_: int) -> str:
        ready.wait()
        outcome = store.append(RATING)
        assert len(documents(path)) == 1
        return outcome

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(send, range(8))) == ["repeated"] * 7 + ["stored"]


def test_full_disk_rejects_rating_and_keeps_stored_ones(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from sceneseek_server.feedback import Feedback, FeedbackStore\n"
        "from sceneseek.errors import FeedbackUnavailable\n"
        "store = FeedbackStore(Path(sys.argv[1]))\n"
        "store.append(Feedback('a dog', 'i.jpg', 1, key='k0'))\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "for limit in (50_000, resource.RLIM_INFINITY):\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))\n"
        "    for number in range(1, 50):\n"
        "        try:\n"
        "            print(store.append(Feedback('a dog', 'i.jpg', 1, key=f'k{number}')), number)\n"
        "        except FeedbackUnavailable as error:\n"
        "            print(error)\n"
        "            break\n"
    )
    path = tmp_path / "f.sqlite"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    stored = [line for line in done.stdout.splitlines() if line.startswith("stored")]
    failed = [line for line in done.stdout.splitlines() if "cannot be used" in line]
    assert len(failed) == 1
    assert "free space" in failed[0]
    assert len(documents(path)) == 1 + len(stored) == 50, "rejected ratings can be sent again once there is space"


def test_moved_file_rejects_ratings(store: FeedbackStore, path: Path) -> None:
    path.rename(path.with_name("moved"))
    with pytest.raises(FeedbackUnavailable, match="moved or removed"):
        store.append(RATING)
    path.with_name("moved").rename(path)
    assert store.append(RATING) == "stored"


def test_closed_store_rejects_ratings(store: FeedbackStore) -> None:
    store.close()
    store.close()
    with pytest.raises(FeedbackUnavailable, match="closed"):
        store.append(RATING)


def _pipe(path: Path) -> None:
    os.mkfifo(path)


def _text(path: Path) -> None:
    path.write_text("no database " * 100)


def _other_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE ratings (stars)")
    connection.close()


@pytest.mark.parametrize("make", [_pipe, _text, _other_table, Path.mkdir])
def test_invalid_database_error_names_file(path: Path, make: Callable[[Path], Any]) -> None:
    path.parent.mkdir()
    make(path)
    with (
        pytest.raises(FeedbackUnavailable, match=rf"{path} cannot be used .*--feedback"),
        contextlib.closing(FeedbackStore(path)) as store,
    ):
        store.append(RATING)


def test_json_lines_file_is_imported_once(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    former = path.with_suffix(".jsonl")
    lines = [
        '{"query": "a dog in the snow", "image": "winter/dog.jpg", "rating": 4, "rater": "ann", "key": "k1"}',
        '{"query": "a cat", "image": "caf\\udce9.jpg", "rating": 1, "source": "b"}',
        "not JSON",
        "17",
        '{"query": "a cat", "image": "i.jpg", "rating": 9}',
        '{"query": "a ca',  # truncated by a crashed process
    ]
    former.write_text("\n".join(lines))
    for _ in range(2):
        store = FeedbackStore(path)
        assert store.append(RATING) == "repeated"
        store.close()
        assert documents(path) == [json.loads(line) for line in lines[:2]]
    assert [record.getMessage() for record in caplog.records] == [f"imported 2 ratings from {former}; 4 lines skipped"]
    with pytest.raises(FeedbackUnavailable, match=r"JSON lines.*name feedback\.sqlite"):
        FeedbackStore(former)


_WRITER = """
import sys, threading
from pathlib import Path
from sceneseek_server.feedback import Feedback, FeedbackStore
store, run = FeedbackStore(Path(sys.argv[1])), sys.argv[2]
def send(thread):
    for number in range(10**9):
        key = f"{run}-{thread}-{number}"
        store.append(Feedback("a dog " + "x" * (number % 900), "i.jpg", 1 + number % 4, key=key))
        sys.stdout.write(key + "\\n"), sys.stdout.flush()
for thread in range(4):
    threading.Thread(target=send, args=(thread,), daemon=True).start()
threading.Event().wait()
"""


def test_acknowledged_ratings_survive_sigkill(tmp_path: Path) -> None:
    path = tmp_path / "feedback.sqlite"
    acknowledged: list[str] = []
    for run in range(3):
        command = [sys.executable, "-c", _WRITER, str(path), str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            acknowledged += [process.stdout.readline().strip() for _ in range(40 + run)]
            process.send_signal(signal.SIGKILL)
            *complete, _partial = process.stdout.read().split("\n")
            acknowledged += complete
    keys = [document["key"] for document in documents(path)]
    assert len(keys) == len(set(keys))
    assert set(acknowledged) <= set(keys)
    assert len(acknowledged) >= 120


@pytest.mark.parametrize(
    ("setting", "url", "expected"),
    [
        (None, "file:index", Path("index/feedback.sqlite")),
        (None, "file:/a%20b/index", Path("/a b/index/feedback.sqlite")),
        (None, "file:~/index", Path("~/index/feedback.sqlite").expanduser()),
        (None, "http://qdrant:6333", None),
        (Path("/ratings/f.sqlite"), "http://qdrant:6333", Path("/ratings/f.sqlite")),
        (Path("f.sqlite"), "file:index", Path("f.sqlite")),
    ],
)
def test_default_path_is_inside_embedded_index(setting: Path | None, url: str, expected: Path | None) -> None:
    assert feedback_path(setting, url) == expected
