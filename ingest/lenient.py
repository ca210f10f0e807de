"""Reads headers whose names are not UTF-8, which aiokafka's compiled parser refuses together with their whole batch.

A name is Kafka's ``string``, but the broker checks none, and producers in some languages send any bytes. aiokafka
parses records where nobody can take part, so for a while its parser is exchanged for its own Python one, over a buffer
that decodes leniently: what is no UTF-8 becomes surrogates (``surrogateescape``) and loses nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any, SupportsIndex

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import _MemoryRecordsPy

LENIENT_FOR_S = 60.0
"""The Python parser is several times slower: it serves until it is past such a batch, not for ever."""

_strict = fetcher.MemoryRecords
_until: asyncio.TimerHandle | None = None


def read_leniently() -> None:
    """From now on, and for a minute, every fetch of this process takes headers' names as they are."""
    global _until
    if _until is not None:
        _until.cancel()
    fetcher.MemoryRecords = _LenientRecords
    _until = asyncio.get_running_loop().call_later(LENIENT_FOR_S, _read_strictly)


def _read_strictly() -> None:
    fetcher.MemoryRecords = _strict


class _LenientBuffer(bytearray):
    """Its slices are such buffers again, and decode without fail."""

    def __getitem__(self, index: SupportsIndex | slice) -> Any:
        part = super().__getitem__(index)
        return _LenientBuffer(part) if isinstance(part, bytearray) else part

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self).decode(encoding, "surrogateescape")


class _LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc] # aiokafka ships no types
    def __init__(self, buffer: bytes | bytearray | memoryview) -> None:
        super().__init__(buffer)
        self._buffer: bytearray = _LenientBuffer(buffer)

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        if not isinstance(self._buffer, _LenientBuffer):
            self._buffer = _LenientBuffer(self._buffer)


class _LenientRecords(_MemoryRecordsPy):  # type: ignore[misc] # aiokafka ships no types
    def next_batch(self) -> Any:
        piece = self._next_slice
        batch = super().next_batch()
        return _LenientBatch(piece) if batch is not None and piece[self.MAGIC_OFFSET] >= 2 else batch
