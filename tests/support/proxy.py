"""A TCP proxy that breaks the network between a client and a server: cut, black hole, latency, bandwidth, reset.

It runs in a thread of its own, so that a test that blocks its event loop does not become a fault of the network. Every
method may be called from any thread and returns when it has taken effect.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Literal, Self
from urllib.parse import urlsplit

LOOPBACK = "127.0.0.1"
CHUNK = 65_536
At = Literal["swallow", "mute", "reset", "answer"]
"""What happens to a connection whose client sends a given text: the text and all that follows is held back; the text
arrives, and its answer is held back; the connection is reset instead of an answer; the text arrives, and the connection
is reset in the middle of its answer."""


@dataclass(eq=False)
class _Link:
    """One client's connection and the proxy's own to the server."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter
    to_server: asyncio.Event = field(default_factory=asyncio.Event)
    to_client: asyncio.Event = field(default_factory=asyncio.Event)
    half: bool = False
    """Only half of the next answer arrives, then a reset."""

    def flow(self) -> None:
        self.to_server.set()
        self.to_client.set()

    def hold(self) -> None:
        self.to_server.clear()
        self.to_client.clear()

    def reset(self) -> None:
        """Ends both sides with RST."""
        for writer in (self.client, self.server):
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()


class Proxy:
    """Listens on a free port of 127.0.0.1 and passes everything on to ``host:port``, until it is told otherwise.

    Args:
        kafka: rewrite the address in a broker's answers, so that its clients come back through the proxy.
    """

    def __init__(self, host: str, port: int, *, kafka: bool = False) -> None:
        self._target = (host, port)
        self._kafka = kafka
        self._links: set[_Link] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._held = False
        self._delay_s = 0.0
        self._bytes_per_s: float | None = None
        self._traps: list[tuple[bytes, At]] = []
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self.port = 0
        self.accepted = 0
        """Connections that clients have opened so far."""

    def __enter__(self) -> Self:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        self._do(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    # Faults.

    def cut(self) -> None:
        """Resets every connection and refuses new ones, until :meth:`heal`."""
        self._do(self._cut())

    def black_hole(self) -> None:
        """Nothing arrives any more, on no connection, and nobody is told. New connections are accepted, and silent."""
        self._do(self._hold())

    def heal(self) -> None:
        """Everything arrives again, also what was held back."""
        self._do(self._heal())

    def reset(self) -> None:
        """Resets the connections there are; new ones are fine."""
        self._do(self._reset())

    def delay(self, seconds: float) -> None:
        """Each piece that arrives, in either direction, arrives so much later."""
        self._delay_s = seconds

    def limit(self, bytes_per_s: float | None) -> None:
        """Each connection passes so many bytes a second in each direction; None: as many as come."""
        self._bytes_per_s = bytes_per_s

    def once(self, text: bytes, at: At) -> None:
        """Breaks the first connection whose client sends this text."""
        self._traps.append((text, at))

    @property
    def sprung(self) -> bool:
        """Whether every :meth:`once` has happened."""
        return not self._traps

    # Inside the thread.

    def _do(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._accept, LOOPBACK, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _cut(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        await self._reset()

    async def _hold(self) -> None:
        self._held = True
        for link in self._links:
            link.hold()

    async def _heal(self) -> None:
        self._held = False
        for link in self._links:
            link.flow()
        if self._server is None:
            await self._listen()

    async def _reset(self) -> None:
        for link in list(self._links):
            link.reset()

    async def _close(self) -> None:
        await self._cut()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        try:
            await self._pass_on(reader, writer)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # the end of the connection, or of the proxy
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            upstream, downstream = await asyncio.open_connection(*self._target)
        except OSError:
            writer.transport.abort()  # as if the server itself had refused
            return
        link = _Link(writer, downstream)
        if not self._held:
            link.flow()
        self._links.add(link)
        try:
            await asyncio.gather(self._pump_to_server(reader, link), self._pump_to_client(upstream, link))
        finally:
            self._links.discard(link)
            downstream.close()

    async def _pump_to_server(self, reader: asyncio.StreamReader, link: _Link) -> None:
        before = b""
        while data := await _read(reader):
            await self._slowness(data)
            sprung = self._trap(before + data)
            before = data[-64:]  # a text may come in two pieces
            if sprung == "swallow":
                link.hold()
            elif sprung == "mute":
                link.to_client.clear()
            elif sprung == "answer":
                link.half = True
            elif sprung == "reset":
                link.reset()
                return
            await link.to_server.wait()
            link.server.write(data)
            await link.server.drain()
        await link.to_server.wait()  # a black hole takes the end of a connection, too
        link.server.close()

    async def _pump_to_client(self, reader: asyncio.StreamReader, link: _Link) -> None:
        host, port = self._target
        theirs, ours = (host.encode() + number.to_bytes(4, "big") for number in (port, self.port))
        rest = b""
        while data := await _read(reader):
            await self._slowness(data)
            await link.to_client.wait()
            if link.half:
                link.client.write(data[: len(data) // 2])
                await link.client.drain()
                link.reset()
                return
            if self._kafka:
                data = (rest + data).replace(theirs, ours)
                # The address may come in two pieces: its beginning waits for the rest.
                cut = next((n for n in range(len(theirs) - 1, 0, -1) if data.endswith(theirs[:n])), 0)
                data, rest = data[: len(data) - cut], data[len(data) - cut :]
            link.client.write(data)
            await link.client.drain()
        await link.to_client.wait()
        link.client.close()

    async def _slowness(self, data: bytes) -> None:
        seconds = self._delay_s + (len(data) / self._bytes_per_s if self._bytes_per_s else 0.0)
        if seconds:
            await asyncio.sleep(seconds)

    def _trap(self, text: bytes) -> At | None:
        for trap in self._traps:
            if trap[0] in text:
                self._traps.remove(trap)
                return trap[1]
        return None


async def _read(reader: asyncio.StreamReader) -> bytes:
    try:
        return await reader.read(CHUNK)
    except OSError:
        return b""  # reset: an end like any other


def to(url_or_servers: str, *, kafka: bool = False) -> Proxy:
    """A proxy to the server of a database URL, or to the broker of ``host:port``."""
    parts = urlsplit(url_or_servers if "://" in url_or_servers else f"//{url_or_servers}")
    assert parts.hostname is not None
    assert parts.port is not None
    return Proxy(parts.hostname, parts.port, kafka=kafka)


def through(url: str, proxy: Proxy) -> str:
    """The same database URL, through the proxy."""
    parts = urlsplit(url)
    credentials, _, _ = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{credentials}@{proxy.address}").geturl()
