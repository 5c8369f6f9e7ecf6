"""A file with the tables of the fleet's state, and transactions on a plain connection."""

from __future__ import annotations

import sqlite3

from shifter.adapters.sqlite.claims_schema import CLAIMS_DDL


class PlainFile:
    """`Transactions` without a thread: each call is a transaction of its own."""

    def __init__(self, path):
        self.path = path
        self._connection = sqlite3.connect(path, isolation_level=None, timeout=30)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute("PRAGMA synchronous=NORMAL")

    def create(self):
        for statement in CLAIMS_DDL:
            wanted = statement.replace("TABLE", "TABLE IF NOT EXISTS")
            self._connection.execute(wanted)

    async def write(self, fn):
        return self.write_sync(fn)

    def write_sync(self, fn):
        self._connection.execute("BEGIN IMMEDIATE")
        with self._connection:
            return fn(self._connection)

    async def read(self, fn):
        return fn(self._connection)

    async def close(self):
        self._connection.close()


def open_file(path):
    """The file as one process opens it, with its tables."""
    file = PlainFile(path)
    file.create()
    return file
