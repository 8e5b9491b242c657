"""Ratings kept: durable before they are acknowledged, once a key, in the form that training reads."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sceneseek.errors import Conflict, FeedbackUnavailable, InvalidRequest
from sceneseek_evaluation.ratings import read_feedback
from sceneseek_server import feedback_log
from sceneseek_server.feedback_log import Feedback, FeedbackLog, feedback_path

ROOT = Path(__file__).parents[2]
SAID = Feedback("a dog in the snow", "winter/dog.jpg", 4, rater="ann", key="k1")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "feedback.jsonl"


def documents(path: Path) -> list[dict[str, Any]]:
    text = path.read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.split("\n")[:-1]]


def test_a_rating_is_a_line_that_training_reads(path: Path, tmp_path: Path) -> None:
    (tmp_path / "winter").mkdir()
    (tmp_path / "winter" / "dog.jpg").touch()
    kept = FeedbackLog(path)
    assert kept.append(replace(SAID, query="  a dog\tin the snow ")) == "stored"
    assert kept.append(Feedback("a cat", "winter/dog.jpg", 1)) == "stored"
    first, second = documents(path)
    assert first.pop("at").endswith("+00:00")
    expected = {"query": "a dog in the snow", "image": "winter/dog.jpg", "rating": 4, "rater": "ann", "key": "k1"}
    assert first == expected
    assert second.keys() == {"query", "image", "rating", "at"}
    ratings = read_feedback(path, tmp_path)
    assert (ratings.captions, ratings.target.tolist()) == (("a dog in the snow", "a cat"), [1.0, 0.0])
    kept.close()


def test_only_its_owner_may_read_it(path: Path) -> None:
    FeedbackLog(path).close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("query", ["ein Hund läuft", "собака 🐕", 'a "quoted" \\ one', "a dog"])
def test_any_query_is_read_again_as_it_was_searched(path: Path, query: str) -> None:
    kept = FeedbackLog(path)
    kept.append(replace(SAID, query=query))
    kept.close()
    assert documents(path)[0]["query"] == query


def test_the_name_of_a_file_that_is_no_text_is_read_again(path: Path) -> None:
    kept = FeedbackLog(path)
    kept.append(replace(SAID, image="caf\udce9.jpg"))
    kept.close()
    assert documents(path)[0]["image"] == "caf\udce9.jpg"


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
def test_what_training_would_refuse_is_refused_first(changed: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        replace(SAID, **changed)


def test_the_same_rating_under_its_key_is_kept_once_also_over_a_restart(path: Path) -> None:
    for expected in ("stored", "repeated", "repeated"):
        kept = FeedbackLog(path)
        assert kept.append(SAID) == expected
        assert kept.append(replace(SAID, query=" a dog  in the snow")) == "repeated"
        kept.close()
    assert len(documents(path)) == 1


@pytest.mark.parametrize(
    "changed", [{"rating": 3}, {"query": "a cat"}, {"image": "x.jpg"}, {"rater": ""}, {"source": "b"}]
)
def test_another_rating_under_the_same_key_is_a_conflict(path: Path, changed: dict[str, Any]) -> None:
    kept = FeedbackLog(path)
    kept.append(SAID)
    with pytest.raises(Conflict) as caught:
        kept.append(replace(SAID, **changed))
    assert caught.value.status == 409
    kept.close()
    kept = FeedbackLog(path)
    with pytest.raises(Conflict):
        kept.append(replace(SAID, **changed))
    kept.close()
    assert len(documents(path)) == 1


def test_ratings_without_a_key_are_each_kept(path: Path) -> None:
    kept = FeedbackLog(path)
    for _ in range(3):
        assert kept.append(replace(SAID, key="")) == "stored"
    kept.close()
    assert len(documents(path)) == 3


KEYS, QUERIES = st.sampled_from(["", "a", "b", "ключ"]), st.sampled_from(["x", "y"])


@settings(max_examples=40, deadline=None)  # each syncs the disk, which others use too
@given(st.lists(st.tuples(KEYS, QUERIES, st.integers(1, 3), st.booleans()), max_size=15))
def test_whatever_comes_a_key_stands_for_the_first_rating_that_came_with_it(
    coming: list[tuple[str, str, int, bool]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f.jsonl"
        kept = FeedbackLog(path)
        expected: list[tuple[str, str, int]] = []
        by_key: dict[str, tuple[str, int]] = {}
        for key, query, rating, restarted in coming:
            if restarted:
                kept.close()
                kept = FeedbackLog(path)
            feedback = Feedback(query, "i.jpg", rating, key=key)
            if key and by_key.setdefault(key, (query, rating)) != (query, rating):
                with pytest.raises(Conflict):
                    kept.append(feedback)
            else:
                new = not key or key not in {line[0] for line in expected}
                assert kept.append(feedback) == ("stored" if new else "repeated")
                expected += [(key, query, rating)] if new else []
        kept.close()
        assert [(d.get("key", ""), d["query"], d["rating"]) for d in documents(path)] == expected


def test_threads_share_syncs_and_each_rating_is_a_whole_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs, real = [], os.fdatasync

    def slow(handle: int) -> None:
        syncs.append(handle)
        threading.Event().wait(0.005)
        real(handle)

    monkeypatch.setattr(os, "fdatasync", slow)
    kept = FeedbackLog(path)
    with ThreadPoolExecutor(16) as pool:
        outcomes = list(pool.map(lambda i: kept.append(replace(SAID, key=f"k{i}", query=f"q{i}")), range(200)))
    assert outcomes == ["stored"] * 200
    assert {d["key"] for d in documents(path)} == {f"k{i}" for i in range(200)}
    assert len(syncs) < 100
    kept.close()


def test_a_rating_sent_by_many_threads_at_once_is_kept_once_and_acknowledged_when_it_is_durable(path: Path) -> None:
    kept = FeedbackLog(path)
    begun = threading.Barrier(8)

    def send(_: int) -> str:
        begun.wait()
        outcome = kept.append(SAID)
        assert len(documents(path)) == 1
        return outcome

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(send, range(8))) == ["repeated"] * 7 + ["stored"]
    kept.close()


@pytest.mark.parametrize("torn", [b'{"query": "a ca', b"{", b"\0\0\0\0", b'{"query": "\xd1', b"   ", b"17"])
def test_a_torn_last_line_is_cut_off(path: Path, torn: bytes, caplog: pytest.LogCaptureFixture) -> None:
    kept = FeedbackLog(path)
    kept.append(SAID)
    kept.close()
    with path.open("ab") as file:
        file.write(torn)
    kept = FeedbackLog(path)
    assert "torn" in caplog.text
    assert kept.append(replace(SAID, key="k2")) == "stored"
    kept.close()
    assert [d["key"] for d in documents(path)] == ["k1", "k2"]


def test_a_last_line_that_only_lacks_its_end_is_kept(path: Path) -> None:
    kept = FeedbackLog(path)
    kept.append(SAID)
    kept.close()
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    kept = FeedbackLog(path)
    assert kept.append(SAID) == "repeated"
    assert kept.append(replace(SAID, key="k2")) == "stored"
    kept.close()
    assert [d["key"] for d in documents(path)] == ["k1", "k2"]


def test_lines_that_are_no_ratings_are_told_of_and_left(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_text('not JSON\n\n{"query": "q", "image": "i.jpg", "rating": 1, "key": 7}\n')
    kept = FeedbackLog(path)
    assert "1 of 3 lines are no ratings" in caplog.text
    kept.append(SAID)
    kept.close()
    assert path.read_text().startswith("not JSON\n\n")


def test_a_second_writer_is_refused_and_the_first_goes_on(path: Path) -> None:
    kept = FeedbackLog(path)
    with pytest.raises(FeedbackUnavailable, match=r"written by another process.*--feedback"):
        FeedbackLog(path)
    assert kept.append(SAID) == "stored"
    kept.close()
    FeedbackLog(path).close()


@pytest.mark.parametrize("fails", ["pwrite", "fdatasync"])
def test_on_a_full_disk_nothing_half_written_stays_and_the_rating_can_be_sent_again(
    path: Path, fails: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = FeedbackLog(path)
    kept.append(SAID)
    before, write = path.read_bytes(), os.pwrite

    def full(handle: int, *rest: Any) -> int:
        if rest:
            data, place = rest
            if place > len(before):  # the second call for the rest
                raise OSError(28, "No space left on device")
            return write(handle, data[:7], place)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, full)
        with pytest.raises(FeedbackUnavailable, match="no room") as caught:
            kept.append(replace(SAID, key="k2"))
        assert caught.value.status == 503
    assert path.read_bytes() == before
    assert kept.append(replace(SAID, key="k2")) == "stored"
    kept.close()
    assert [d["key"] for d in documents(path)] == ["k1", "k2"]


def test_on_a_disk_that_is_really_full_it_says_so(tmp_path: Path) -> None:
    program = (
        "import resource, signal, sys\n"
        "from pathlib import Path\n"
        "from sceneseek_server.feedback_log import Feedback, FeedbackLog\n"
        "from sceneseek.errors import FeedbackUnavailable\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (250, 250))\n"
        "kept = FeedbackLog(Path(sys.argv[1]))\n"
        "for number in range(9):\n"
        "    try:\n"
        "        kept.append(Feedback('a dog', 'i.jpg', 1, key=f'k{number}'))\n"
        "    except FeedbackUnavailable as error:\n"
        "        print(number, error)\n"
        "        break\n"
    )
    path = tmp_path / "f.jsonl"
    done = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60
    )
    assert "there is no room for more" in done.stdout
    kept = documents(path)
    assert len(kept) == int(done.stdout.split()[0]) >= 2


def test_what_cannot_even_be_cut_off_is_not_written_behind(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = FeedbackLog(path)

    def failing(*_: Any) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        patch.setattr(os, "ftruncate", failing)
        with pytest.raises(FeedbackUnavailable, match="cannot be written"):
            kept.append(SAID)
    with pytest.raises(FeedbackUnavailable, match="restart the service"):
        kept.append(SAID)
    kept.close()


def test_a_fault_of_another_kind_is_no_success_for_those_who_wait(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = FeedbackLog(path)

    def broken(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", broken)
        with pytest.raises(MemoryError):
            kept.append(SAID)
    assert path.read_bytes() == b""
    assert kept.append(SAID) == "stored"
    kept.close()


def test_a_file_that_was_removed_meanwhile_takes_no_rating_with_it(path: Path) -> None:
    kept = FeedbackLog(path)
    path.rename(path.with_name("moved"))
    with pytest.raises(FeedbackUnavailable, match="moved or removed"):
        kept.append(SAID)
    path.with_name("moved").rename(path)
    assert kept.append(SAID) == "stored"
    kept.close()


def test_after_its_end_it_takes_nothing(path: Path) -> None:
    kept = FeedbackLog(path)
    kept.close()
    kept.close()
    with pytest.raises(FeedbackUnavailable, match="closed"):
        kept.append(SAID)


def test_a_place_that_is_no_file_is_named(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").touch()
    for place, says in (("pipe", "no file"), (".", "Is a directory"), ("file/f.jsonl", "exists|Not a directory")):
        with pytest.raises(FeedbackUnavailable, match=says):
            FeedbackLog(tmp_path / place)


_WRITER = """
import sys, threading
from pathlib import Path
from sceneseek_server.feedback_log import Feedback, FeedbackLog
kept, run = FeedbackLog(Path(sys.argv[1])), sys.argv[2]
def send(thread):
    for number in range(10**9):
        key = f"{run}-{thread}-{number}"
        kept.append(Feedback("a dog " + "x" * (number % 900), "i.jpg", 1 + number % 4, key=key))
        sys.stdout.write(key + "\\n"), sys.stdout.flush()
for thread in range(4):
    threading.Thread(target=send, args=(thread,), daemon=True).start()
threading.Event().wait()
"""


def test_every_acknowledged_rating_survives_kill_9(tmp_path: Path) -> None:
    path = tmp_path / "feedback.jsonl"
    (tmp_path / "i.jpg").touch()
    acknowledged: list[str] = []
    for run in range(3):
        command = [sys.executable, "-c", _WRITER, str(path), str(run)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
            assert process.stdout is not None
            acknowledged += [process.stdout.readline().strip() for _ in range(40 + run)]
            process.send_signal(signal.SIGKILL)
            *whole, _torn = process.stdout.read().split("\n")
            acknowledged += whole
    FeedbackLog(path).close()
    keys = [d["key"] for d in documents(path)]
    assert len(keys) == len(set(keys))
    assert set(acknowledged) <= set(keys)
    assert len(acknowledged) >= 120
    assert sum(read_feedback(path, tmp_path).weight) == len(keys)


@pytest.mark.parametrize(
    ("setting", "url", "expected"),
    [
        (None, "file:index", Path("index/feedback.jsonl")),
        (None, "file:/a%20b/index", Path("/a b/index/feedback.jsonl")),
        (None, "http://qdrant:6333", None),
        (Path("/kept/f.jsonl"), "http://qdrant:6333", Path("/kept/f.jsonl")),
        (Path("f.jsonl"), "file:index", Path("f.jsonl")),
    ],
)
def test_it_lies_in_an_embedded_index_unless_another_place_is_named(
    setting: Path | None, url: str, expected: Path | None
) -> None:
    assert feedback_path(setting, url) == expected


def test_a_failure_is_logged_once_for_all_who_waited(
    path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = FeedbackLog(path)

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdatasync", full)
    with pytest.raises(FeedbackUnavailable):
        kept.append(SAID)
    said = [r for r in caplog.records if r.name == feedback_log.__name__ and r.levelno == logging.ERROR]
    assert len(said) == 1
    kept.close()
