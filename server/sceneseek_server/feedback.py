"""Ratings that users of the service submit, stored in an SQLite file and exported as JSON lines for training.

    {"query": "a dog in the snow", "image": "winter/dog.jpg", "rating": 4, "rater": ..., "at": "2026-...", "key": ...}

A rating is durable when `append` returns: the database is in WAL mode with ``synchronous=FULL``, which syncs the disk
at every commit. (With ``NORMAL``, ratings that were acknowledged last would be lost when the machine loses power.) One
with a key is stored once, however often a client sends it. Only the file's owner may read it. Who may rate, and which
image an id stands for, is not decided here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from sceneseek.errors import Conflict, FeedbackUnavailable, InvalidRequest, NotFound, one_line
from sceneseek.files import sync
from sceneseek.payload import is_relative
from sceneseek.queries import MAX_NAME_CHARACTERS
from sceneseek.request import HIGHEST, LOWEST, checked_query

FILE_NAME = "feedback.sqlite"

# The name of an image may be no text; then it is a BLOB, and else TEXT.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS ratings (
    id INTEGER PRIMARY KEY,
    at TEXT NOT NULL,
    query TEXT NOT NULL,
    image NOT NULL,
    rating INTEGER NOT NULL,
    rater TEXT NOT NULL,
    source TEXT NOT NULL,
    key TEXT UNIQUE
)
"""
_INSERT = """
INSERT INTO ratings (at, query, image, rating, rater, source, key) VALUES (?, ?, ?, ?, ?, ?, ?)
ON CONFLICT (key) DO NOTHING
"""
# Seconds that a write waits for one of another process.
_LOCK_TIMEOUT = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Feedback:
    """One rating.

    Attributes:
        query: the text that was searched; it is stored in the form that is searched.
        image: the image's path, relative to its folder.
        rating: how well they match, 1 to 4.
        rater: who rates; of one rater's ratings of a pair the last counts. Empty where nobody is named.
        key: the client's name of this rating, under which it is stored once; empty where it has none.
        source: the label of the image's folder; empty for the first one.

    Raises:
        InvalidRequest: a field cannot be stored, or not read by training.
    """

    query: str
    image: str
    rating: int
    rater: str = ""
    key: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "query", checked_query(self.query))
        if type(self.rating) is not int or not LOWEST <= self.rating <= HIGHEST:
            raise InvalidRequest(
                f"the rating is {self.rating}",
                f"rate from {LOWEST} (no match) to {HIGHEST} (full match), in whole numbers",
            )
        if not is_relative(self.image):
            raise InvalidRequest(f"{one_line(self.image)[:80]!r} names no image", "name one that was found")
        for name, text in (("rater", self.rater), ("key", self.key)):
            if len(text) > MAX_NAME_CHARACTERS or any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
                raise InvalidRequest(
                    f"the {name} is too long or has control characters",
                    f"send at most {MAX_NAME_CHARACTERS} printable characters",
                )


class FeedbackStore:
    """The ratings of one file, open for writing. Thread-safe; several processes may write one file.

    Args:
        path: of the file, which is created if it does not exist. A new one imports the ratings of a file of JSON lines
            beside it: of ``feedback.jsonl`` for ``feedback.sqlite``. That is an export, or the former format.

    Raises:
        FeedbackUnavailable: the file cannot be read or written, or is not such a database.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock = threading.Lock()
        if path.suffix == ".jsonl":
            beside = path.with_suffix(".sqlite").name
            raise FeedbackUnavailable(
                f"{path} is a file of JSON lines, where ratings are no longer stored",
                f"name {beside} beside it with --feedback, which imports its ratings",
            )
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
            sync(path.parent)
            self._inode = path.stat().st_ino
        except OSError as error:
            raise _unavailable(path, error.strerror) from error
        with _errors_of(path):
            connection = sqlite3.connect(path, timeout=_LOCK_TIMEOUT, isolation_level=None, check_same_thread=False)
            try:
                self._set_up(connection)
            except BaseException:
                connection.close()
                raise
        self._connection: sqlite3.Connection | None = connection

    def append(self, feedback: Feedback) -> Literal["stored", "repeated"]:
        """Store a rating; it is durable when this returns.

        Returns:
            ``stored``, or ``repeated`` if the same rating was stored under its key before.

        Raises:
            Conflict: another rating is stored under its key.
            FeedbackUnavailable: the rating cannot be written, and is not stored.
        """
        with self._lock:
            if self._connection is None:
                raise FeedbackUnavailable(f"{self.path} is closed: the service is stopping", "send the rating again")
            # SQLite would go on writing a file that no longer has a name.
            if not self.path.exists() or self.path.stat().st_ino != self._inode:
                raise FeedbackUnavailable(
                    f"{self.path} was moved or removed while the service had it open",
                    "put it back, or restart the service to begin a new one",
                )
            with _errors_of(self.path):
                row = _row(feedback, datetime.now(UTC).isoformat(timespec="milliseconds"))
                if self._connection.execute(_INSERT, row).rowcount:
                    return "stored"
                stored = self._connection.execute(
                    "SELECT query, image, rating, rater, source, key FROM ratings WHERE key = ?", (feedback.key,)
                ).fetchone()
        if stored != row[1:]:
            raise Conflict("another rating was sent under this key", "send each rating under a key of its own")
        return "repeated"

    def close(self) -> None:
        """Close the file; closing twice is no error."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def _set_up(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        is_new = not connection.execute("PRAGMA schema_version").fetchone()[0]
        connection.execute(_SCHEMA)
        if is_new:
            _import_lines(connection, self.path.with_suffix(".jsonl"))
        connection.execute("COMMIT")


def export_lines(path: Path) -> Iterator[str]:
    """The ratings of a file, oldest first, each as a line of JSON that `sceneseek train heads --feedback` reads.

    Raises:
        NotFound: there is no such file.
        FeedbackUnavailable: it cannot be read, or is not such a database.
    """
    if not path.is_file():
        raise NotFound(f"there is no file of ratings {path}", "name the one that the service writes")
    with _errors_of(path), contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
        file.row_factory = sqlite3.Row
        for row in file.execute("SELECT query, image, rating, source, rater, at, key FROM ratings ORDER BY id"):
            image = row["image"]
            document = {name: value for name, value in dict(row).items() if value} | {"image": os.fsdecode(image)}
            # A name that is no text can only be written with escapes.
            yield json.dumps(document, ensure_ascii=isinstance(image, bytes))


def feedback_path(setting: Path | None, index_url: str) -> Path | None:
    """Where a service stores ratings: the configured file, else in the directory of a ``file:`` index, else nowhere."""
    if setting is not None:
        return setting
    parts = urlsplit(index_url)
    if parts.scheme != "file" or not parts.path:
        return None
    return Path(os.path.expanduser(unquote(parts.path))) / FILE_NAME  # noqa: PTH111 - raises nothing, see `open_store`


def _row(feedback: Feedback, at: str) -> tuple[Any, ...]:
    image: str | bytes = feedback.image
    try:
        feedback.image.encode()
    except UnicodeEncodeError:
        image = os.fsencode(feedback.image)
    return at, feedback.query, image, feedback.rating, feedback.rater, feedback.source, feedback.key or None


def _import_lines(connection: sqlite3.Connection, path: Path) -> None:
    """Import ratings from JSON lines; lines that are no ratings, such as a torn last one, are counted and left out."""
    try:
        lines = [line for line in path.read_bytes().split(b"\n") if line.strip()]
    except FileNotFoundError:
        return
    except OSError as error:
        raise _unavailable(path, error.strerror) from error
    imported = 0
    for line in lines:
        with contextlib.suppress(ValueError, TypeError, AttributeError, RecursionError, InvalidRequest):
            document = json.loads(line)
            at = str(document.pop("at", ""))
            imported += connection.execute(_INSERT, _row(Feedback(**document), at)).rowcount
    log.warning("imported %d ratings from %s; %d lines left out", imported, path, len(lines) - imported)


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        log.error("%s: %s", path, error)
        raise _unavailable(path, str(error)) from error


def _unavailable(path: Path, why: str | None) -> FeedbackUnavailable:
    return FeedbackUnavailable(
        f"{path} cannot be used ({why})", "check its permissions and the free space, or choose another with --feedback"
    )
