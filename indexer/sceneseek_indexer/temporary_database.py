"""A database for what one run would else hold in memory; what its cache has no room for goes to a file.

The file has no name and ends with the process. It lies in the system's temporary directory, or in the one that the
environment variable SQLITE_TMPDIR names.
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

# Its cache, in KiB. Nothing has to survive a kill, so nothing is synced or can be rolled back.
_SETTINGS = "PRAGMA cache_size = -65536; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; BEGIN;"


@contextlib.contextmanager
def temporary_database(schema: str) -> Iterator[sqlite3.Connection]:
    """A new database with the tables of a schema, until the block ends; for one thread.

    Raises:
        IndexUnavailable: in place of an error of the database in the block, such as that its disk is full.
    """
    with contextlib.closing(sqlite3.connect("", isolation_level=None)) as database:
        try:
            database.executescript(_SETTINGS + schema)
            yield database
        except sqlite3.Error as error:
            what = f"the temporary database of the run cannot be used ({error})"
            raise IndexUnavailable(
                what, "free space in the temporary directory, or name another in SQLITE_TMPDIR"
            ) from error


class View(Generic[Item]):
    """What a query finds, an item made of each row: read from the database each time, and counted once.

    `count` is a query that is faster at counting the rows, if there is one.
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
