"""What people say of results, kept: ratings in, lines of a file out that `sceneseek train heads --feedback` reads.

    {"query": "a dog in the snow", "image": "winter/dog.jpg", "rating": 4, "rater": ..., "at": "2026-...", "key": ...}

A rating is durable before `append` returns. Those that come at the same time share one sync of the disk: whoever finds
nobody writing writes everything that waits, and the others wait for it. Either a line is whole in the file or it is not
there: what could not be written is cut off again, and so is, when the file is opened, the torn last line of a process
that died, which was never acknowledged. A rating with a key is kept once, however often a client sends it, also over
restarts; for that 32 bytes a key are kept in memory (with Python's own needs some 0.2 KB), not the ratings.

The file has one writer, held by a lock that goes with its process. It is never rotated, and only its owner may read it.
Who may rate, and which image an id stands for, is not known here.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
import stat
import threading
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, TypeAlias
from urllib.parse import unquote, urlsplit

from sceneseek.errors import Conflict, FeedbackUnavailable, InvalidRequest, one_line
from sceneseek.files import sync
from sceneseek.rating import HIGHEST, LOWEST, is_relative
from sceneseek.request import checked_query

Outcome: TypeAlias = Literal["stored", "repeated"]

FILE_NAME = "feedback.jsonl"
MAX_NAME_CHARACTERS = 200

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Feedback:
    """One rating, as a line of the file has it.

    Attributes:
        query: the text that was searched; it is kept in the form that is searched.
        image: the image's path, relative to its folder.
        rating: how well they match, 1 to 4.
        rater: who says so; of one rater's ratings of a pair the last counts. Empty where nobody is named.
        key: the client's own name of this rating, under which it is kept once; empty where it has none.
        source: the label of the image's folder; empty for the first one.

    Raises:
        InvalidRequest: a field cannot be kept, or not read again.
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

    def to_json(self, at: str) -> dict[str, Any]:
        """As a line of the file has it; what is empty is left out."""
        document = {"query": self.query, "image": self.image, "rating": self.rating}
        more = {"source": self.source, "rater": self.rater, "at": at, "key": self.key}
        return document | {name: value for name, value in more.items() if value}


@dataclass(slots=True)
class _Batch:
    """Lines that are written and synced together, and the keys that are known once they are."""

    lines: list[bytes] = field(default_factory=list)
    keys: dict[bytes, bytes] = field(default_factory=dict)
    done: bool = False
    error: FeedbackUnavailable | None = None


class FeedbackLog:
    """The file, open for appending. Thread-safe.

    Args:
        path: where it is, or is to be.

    Raises:
        FeedbackUnavailable: it cannot be written, or another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._file = _opened(self.path)
        try:
            self._known, self._end = _recovered(self._file, self.path)
        except OSError as error:
            os.close(self._file)
            raise _unavailable(self.path, error) from error
        self._changed = threading.Condition()
        self._waiting = _Batch()
        self._writing: _Batch | None = None
        self._flaw = ""

    def append(self, feedback: Feedback) -> Outcome:
        """Keep a rating; it is durable when this returns.

        Returns:
            ``stored``, or ``repeated`` where the same rating is there under its key.

        Raises:
            Conflict: another rating is there under its key.
            FeedbackUnavailable: it cannot be written; nothing of it is in the file.
        """
        line, key, content = _line(feedback), _digest(feedback.key), _content(feedback.to_json(""))
        with self._changed:
            if feedback.key:
                while self._is_underway(key):
                    self._changed.wait()
                known = self._known.get(key)
                if known is not None:
                    if known != content:
                        raise Conflict(
                            "another rating was sent under this key", "send each rating under a key of its own"
                        )
                    return "repeated"
            batch = self._waiting
            batch.lines.append(line)
            if feedback.key:
                batch.keys[key] = content
            while not batch.done:
                if self._writing is None:
                    self._write_what_waits()
                else:
                    self._changed.wait()
        if batch.error is not None:
            raise FeedbackUnavailable(batch.error.what, batch.error.hint)  # one for each who waited
        return "stored"

    def close(self) -> None:
        """Let go of the file, once what is being written is; closing twice is no error."""
        with self._changed:
            while self._writing is not None:
                self._changed.wait()
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _is_underway(self, key: bytes) -> bool:
        return key in self._waiting.keys or (self._writing is not None and key in self._writing.keys)

    def _write_what_waits(self) -> None:
        """Take the place of the one who writes; called, and left, with the lock."""
        batch = self._writing = self._waiting
        self._waiting = _Batch()
        # Until it is known to be otherwise: nobody who waits may take a failure of another kind for a success.
        batch.error = FeedbackUnavailable(f"writing {self.path} was cut short", "send the rating again")
        try:
            self._changed.release()
            try:
                self._write(b"".join(batch.lines))
            finally:
                self._changed.acquire()
            self._known.update(batch.keys)
            batch.error = None
        except FeedbackUnavailable as error:
            batch.error = error
            log.error("%s", error)
        finally:
            batch.done, self._writing = True, None
            self._changed.notify_all()

    def _write(self, lines: bytes) -> None:
        """Put lines at the file's end, durably, or leave it as it was."""
        if self._file < 0:
            raise FeedbackUnavailable(f"{self.path} is closed: the service is stopping", "send the rating again")
        if self._flaw:
            raise FeedbackUnavailable(self._flaw, "restart the service, which removes it")
        if not _is_at(self.path, self._file):
            raise FeedbackUnavailable(
                f"{self.path} was moved or removed while the service had it open",
                "put it back, or restart the service to begin a new one",
            )
        try:
            written = 0
            while written < len(lines):
                written += os.pwrite(self._file, lines[written:], self._end + written)
            os.fdatasync(self._file)
        except BaseException as error:
            self._cut_back()
            if isinstance(error, OSError):
                raise _unavailable(self.path, error) from error
            raise
        self._end += len(lines)

    def _cut_back(self) -> None:
        """Remove what a write that failed has left; if even that fails, nothing is to be written behind it."""
        try:
            os.ftruncate(self._file, self._end)
        except OSError as error:
            self._flaw = f"{self.path} has a torn line that cannot be removed ({error.strerror})"


def feedback_path(setting: Path | None, index_url: str) -> Path | None:
    """Where a service keeps feedback: where it is told to, else in the directory of a ``file:`` index, else nowhere."""
    if setting is not None:
        return setting
    parts = urlsplit(index_url)
    return Path(unquote(parts.path)) / FILE_NAME if parts.scheme == "file" and parts.path else None


def _opened(path: Path) -> int:
    """The file for reading and writing, locked; made, for its owner only, where there is none.

    Raises:
        FeedbackUnavailable: see `FeedbackLog`.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # Without waiting, which opening a FIFO would do.
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise _unavailable(path, error) from error
    try:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise FeedbackUnavailable(f"{path} is no file that could be appended to", "choose another with --feedback")
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        sync(path.parent)
    except BlockingIOError:
        os.close(handle)
        raise FeedbackUnavailable(
            f"{path} is being written by another process", "stop that one, or choose another file with --feedback"
        ) from None
    except OSError as error:
        os.close(handle)
        raise _unavailable(path, error) from error
    except BaseException:
        os.close(handle)
        raise
    return handle


def _recovered(handle: int, path: Path) -> tuple[dict[bytes, bytes], int]:
    """The keys in a file, with what was said under them, and where to go on; a torn last line is cut off."""
    known: dict[bytes, bytes] = {}
    end = number = bad = 0
    with os.fdopen(os.dup(handle), "rb") as file:
        for number, line in enumerate(file, start=1):  # noqa: B007 - told of after the loop
            document = _parsed(line)
            whole = line.endswith(b"\n")
            if not whole and document is None:
                log.warning("%s: the last line is torn and removed: whoever wrote it died while writing", path)
                break
            end += len(line)
            if document is None:
                bad += bool(line.strip())  # blank lines are passed over
            elif isinstance(document.get("key"), str):
                known[_digest(document["key"])] = _content(document)
            if not whole:  # but for its end
                end += os.pwrite(handle, b"\n", end)
                break
    os.ftruncate(handle, end)
    os.fsync(handle)
    if bad:
        log.warning("%s: %d of %d lines are no ratings: training will refuse the file", path, bad, number)
    return known, end


def _parsed(line: bytes) -> Mapping[str, Any] | None:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _line(feedback: Feedback) -> bytes:
    document = feedback.to_json(datetime.now(UTC).isoformat(timespec="milliseconds"))
    try:
        return f"{json.dumps(document, ensure_ascii=False)}\n".encode()
    except UnicodeEncodeError:  # the name of a file that is no text; escaped it is still read as that name
        return f"{json.dumps(document)}\n".encode("ascii")


def _content(document: Mapping[str, Any]) -> bytes:
    """What two ratings under one key must have in common."""
    parts = [document.get(name) or "" for name in ("query", "image", "rating", "rater", "source")]
    return _digest(json.dumps(parts))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _is_at(path: Path, handle: int) -> bool:
    """Whether the open file is still the one of that name."""
    with contextlib.suppress(OSError):
        return os.path.samestat(path.stat(), os.fstat(handle))
    return False


def _unavailable(path: Path, error: OSError) -> FeedbackUnavailable:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return FeedbackUnavailable(
            f"there is no room for more in {path} ({error.strerror})", "make room; then send the rating again"
        )
    return FeedbackUnavailable(
        f"{path} cannot be written ({error.strerror})", "check the place, or choose another with --feedback"
    )
