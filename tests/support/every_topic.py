"""What a service loads by ``LOOM_TOPICS`` that is to read all of Loom's topics, under the names of one test."""

from __future__ import annotations

import os

from tests.support import topics

_suffix = os.environ["LOOM_TEST_SUFFIX"]

# Topics are found as names at the top of a module; so none is imported here under its own.
globals().update({name.replace(".", "_"): topics.renamed(topic, _suffix) for name, topic in topics.LOOM.items()})
