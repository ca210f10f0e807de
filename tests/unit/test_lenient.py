"""Headers whose names are not UTF-8 are read as they are, losing nothing, and so are their neighbours."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.record.default_records import _DefaultRecordBatchBuilderPy

from ingest.dead_letters import decode_headers, encode_headers
from ingest.lenient import _LenientRecords


class Raw(str):
    """A header's name as a producer in another language sends it: any bytes."""

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        return super().encode("utf-8", "surrogateescape")


NAMES = ["plain", "größe", "\udcff\udcfe", "a\udc80b", ""]


def batch(compression: int) -> bytes:
    builder: Any = _DefaultRecordBatchBuilderPy(2, compression, False, -1, -1, -1, 1 << 20)
    for offset, name in enumerate(NAMES):
        headers = [(Raw(name), b"\xff%d" % offset), ("other", None)]
        assert builder.append(offset, 1000 + offset, b"key", b"\xfevalue", headers) is not None
    return bytes(builder.build())


@pytest.mark.parametrize("compression", [0, 1], ids=["plain", "gzip"])
def test_every_record_is_read_whole(compression: int) -> None:
    records: Any = _LenientRecords(batch(compression) + batch(compression))
    seen = 0
    while records.has_next():
        found = list(records.next_batch())
        assert [record.offset for record in found] == [*range(len(NAMES))]
        for record, name in zip(found, NAMES, strict=True):
            assert (bytes(record.key), bytes(record.value)) == (b"key", b"\xfevalue")
            (first, value), (other, nothing) = record.headers
            assert (first, bytes(value), other, nothing) == (name, b"\xff%d" % record.offset, "other", None)
            assert decode_headers(encode_headers(record.headers)) == [(name, value), ("other", None)]
        seen += 1
    assert seen == 2
