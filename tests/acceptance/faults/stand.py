"""What a world stands on: a broker and a database server that one fault at a time may break, and a template."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ingest.local.postgres import query
from ingest.local.stack import Server, Stack, running_stack
from tests.acceptance.faults.fault import NotHereError
from tests.support.database import create_template

SETTINGS = {"max_connections": "300", "fsync": "off", "full_page_writes": "off"}
"""A killed server's pages are still with the kernel; only a machine that loses power needs fsync."""


@dataclass(frozen=True)
class Stand:
    stack: Stack
    template: str
    """A database with the schema and the tests' tables, to be cloned."""

    @property
    def broker(self) -> Server:
        if self.stack.kafka_server is None:
            raise NotHereError("the broker is given by the environment: it is not ours to stop")
        return self.stack.kafka_server

    @property
    def database(self) -> Server:
        if self.stack.database_server is None:
            raise NotHereError("the database is given by the environment: it is not ours to stop")
        return self.stack.database_server

    async def restore(self) -> None:
        """Makes both whole again, whatever a fault left."""
        for server in (self.stack.kafka_server, self.stack.database_server):
            if server is not None and not server.alive():
                await asyncio.to_thread(server.start)
        await asyncio.to_thread(query, self.stack.database_url, "ALTER SYSTEM RESET ALL")
        await asyncio.to_thread(query, self.stack.database_url, "SELECT pg_reload_conf()")


@contextmanager
def standing(directory: Path, say: Callable[[str], None]) -> Iterator[Stand]:
    """A stand of its own, which ends with the block."""
    with running_stack(directory, say=say, database_settings=SETTINGS) as stack:
        yield Stand(stack, create_template(stack))
