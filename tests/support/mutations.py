"""Messages as a broken producer may send them: valid ones with fields and bytes changed."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

texts = st.text(st.characters(exclude_categories=()), max_size=20)  # lone surrogates and NUL included
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | texts
    | st.datetimes().map(str)
    | st.sampled_from(["v1", "v2", "2026-03-01T12:00:00Z", 2**31, 10**400, 1e-320])
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4))


@st.composite
def mutated(draw: st.DrawFn, valid: dict[str, Any]) -> bytes:
    """A valid message with fields dropped, replaced, added or nested, and perhaps bytes changed."""
    body = copy.deepcopy(valid)
    names = st.sampled_from([*valid, "data", "metadata", "schema_version", "extracted_content"])
    for name in draw(st.lists(names, max_size=3)):
        match draw(st.sampled_from(["drop", "replace", "nest"])):
            case "drop":
                body.pop(name, None)
            case "replace":
                body[name] = draw(values)
            case "nest":
                body.setdefault("data", {})
                if isinstance(body["data"], dict):
                    body["data"][name] = body.pop(name, draw(values)) if name != "data" else draw(values)
    body |= draw(st.dictionaries(texts, values, max_size=2))
    raw = bytearray(json.dumps(body, ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass"))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(raw) - 1)) if raw else 0
        match draw(st.sampled_from(["set", "insert", "cut"])):
            case "set":
                raw[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
            case "insert":
                raw[place:place] = draw(st.binary(max_size=4) | st.sampled_from([b"NaN", b"1e999", b'"\\ud800"', b"["]))
            case "cut":
                del raw[place : place + draw(st.integers(1, 10))]
    return bytes(raw)
