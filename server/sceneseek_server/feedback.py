"""User ratings, stored in an SQLite file and exported as JSON lines for training.

    {"query": "a dog in the snow", "image": "winter/dog.jpg", "rating": 4, "rater": ..., "at": "2026-...", "key": ...}

A rating is durable when `append` returns: the database is in WAL mode with ``synchronous=FULL``, which syncs every
commit to disk. (With ``NORMAL``, a power failure would lose the last acknowledged ratings.) A rating with a key is
stored once, however often a client sends it. Only the owner may read the file. Access control and image ids are handled
elsewhere.
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

# An image name that is not valid text is stored as BLOB, others as TEXT.
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
# Seconds that a write waits for a write of another process.
_LOCK_TIMEOUT = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Feedback:
    """One rating.

    Attributes:
        query: the text of the search; normalized like searched texts.
        image: the path of the image, relative to its folder.
        rating: how well they match, 1 to 4.
        rater: the name of the rater; only a rater's last rating of a pair counts. Empty if not given.
        key: idempotency key: a rating with the same key is stored once; empty if not given.
        source: the label of the image's folder; empty for the first folder.

    Raises:
        InvalidRequest: a field cannot be stored, or cannot be used for training.
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
            raise InvalidRequest(f"{one_line(self.image)[:80]!r} is not an image path", "rate a result of a search")
        for name, text in (("rater", self.rater), ("key", self.key)):
            if len(text) > MAX_NAME_CHARACTERS or any(unicodedata.category(c) in ("Cc", "Cs") for c in text):
                raise InvalidRequest(
                    f"the {name} is too long or contains control characters",
                    f"send at most {MAX_NAME_CHARACTERS} printable characters",
                )


class FeedbackStore:
    """A file of ratings, open for writing. Thread-safe; several processes may write to the same file.

    Args:
        path: the file, which is created if it does not exist. A new ``feedback.sqlite`` imports the ratings of
            ``feedback.jsonl`` in the same directory, which is an export or the former format.

    Raises:
        FeedbackUnavailable: the file cannot be read or written, or is not a database of ratings.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._lock = threading.Lock()
        if path.suffix == ".jsonl":
            beside = path.with_suffix(".sqlite").name
            raise FeedbackUnavailable(
                f"{path} is a file of JSON lines, the former format of ratings",
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
            ``stored``, or ``repeated`` if the same rating was already stored with its key.

        Raises:
            Conflict: another rating is stored with its key.
            FeedbackUnavailable: the rating cannot be written, and is not stored.
        """
        with self._lock:
            if self._connection is None:
                raise FeedbackUnavailable(f"{self.path} is closed: the service is stopping", "send the rating again")
            # SQLite would continue to write to a deleted file.
            if not self.path.exists() or self.path.stat().st_ino != self._inode:
                raise FeedbackUnavailable(
                    f"{self.path} was moved or removed while the service had it open",
                    "put it back, or restart the service to create a new one",
                )
            with _errors_of(self.path):
                row = _row(feedback, datetime.now(UTC).isoformat(timespec="milliseconds"))
                if self._connection.execute(_INSERT, row).rowcount:
                    return "stored"
                stored = self._connection.execute(
                    "SELECT query, image, rating, rater, source, key FROM ratings WHERE key = ?", (feedback.key,)
                ).fetchone()
        if stored != row[1:]:
            raise Conflict("another rating was sent with this key", "send each rating with its own key")
        return "repeated"

    def close(self) -> None:
        """Close the file; may be called repeatedly."""
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
    """Yield the ratings of a file, oldest first, as JSON lines for `sceneseek train heads --feedback`.

    Raises:
        NotFound: the file does not exist.
        FeedbackUnavailable: the file cannot be read, or is not a database of ratings.
    """
    if not path.is_file():
        raise NotFound(f"there is no file of ratings {path}", "give the file that the service writes")
    with _errors_of(path), contextlib.closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
        file.row_factory = sqlite3.Row
        for row in file.execute("SELECT query, image, rating, source, rater, at, key FROM ratings ORDER BY id"):
            image = row["image"]
            document = {name: value for name, value in dict(row).items() if value} | {"image": os.fsdecode(image)}
            # A name that is not valid text needs escapes.
            yield json.dumps(document, ensure_ascii=isinstance(image, bytes))


def feedback_path(setting: Path | None, index_url: str) -> Path | None:
    """The file of ratings: the configured one, else one in the directory of a ``file:`` index, else None."""
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
    """Import ratings from JSON lines; skip and count invalid lines, such as a truncated last line."""
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
    log.warning("imported %d ratings from %s; %d lines skipped", imported, path, len(lines) - imported)


@contextlib.contextmanager
def _errors_of(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        log.error("%s: %s", path, error)
        raise _unavailable(path, str(error)) from error


def _unavailable(path: Path, reason: str | None) -> FeedbackUnavailable:
    return FeedbackUnavailable(
        f"{path} cannot be used ({reason})",
        "check its permissions and free space, or choose another file with --feedback",
    )
