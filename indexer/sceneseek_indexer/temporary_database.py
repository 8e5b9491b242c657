"""A database for the data of one run that may not fit into memory; it spills from a cache to a temporary file.

The file is unlinked, so it is removed when the process ends. It is in the system's temporary directory, or in the one
set by the environment variable SQLITE_TMPDIR.
"""

from __future__ import annotations

import contextlib
import functools
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from sceneseek.errors import IndexUnavailable

Item = TypeVar("Item")
Row = tuple[Any, ...]

# The cache size is in KiB. Nothing has to survive a crash, so there is no journal and no sync.
_SETTINGS = "PRAGMA cache_size = -65536; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;"


@contextlib.contextmanager
def temporary_database(schema: str) -> Iterator[sqlite3.Connection]:
    """Create a database with a schema for the block; for use by one thread.

    Raises:
        IndexUnavailable: SQLite raised an error in the block, such as a full disk.
    """
    with contextlib.closing(sqlite3.connect("", isolation_level=None)) as database:
        try:
            database.executescript(_SETTINGS + schema)
            yield database
        except sqlite3.Error as error:
            what = f"the temporary database of the run cannot be used ({error})"
            raise IndexUnavailable(
                what, "free space in the temporary directory, or set SQLITE_TMPDIR to another one"
            ) from error


class View(Generic[Item]):
    """The rows of a query as items: read from the database on each iteration, and counted once.

    `count` is a faster query for the number of rows, if given.
    """

    def __init__(
        self,
        database: sqlite3.Connection,
        make: Callable[[Row], Item],
        query: str,
        parameters: Row = (),
        count: str | None = None,
    ) -> None:
        self._database, self._make, self._query, self._parameters = database, make, query, parameters
        self._counting = f"SELECT count(*) FROM ({query})" if count is None else count  # noqa: S608 - our own query

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Item]:
        return map(self._make, self._database.execute(self._query, self._parameters))

    @functools.cached_property
    def _count(self) -> int:
        return int(self._database.execute(self._counting, self._parameters).fetchone()[0])
