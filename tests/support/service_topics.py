"""What a service under test loads by ``LOOM_TOPICS``: the tests' topics under the names of one test."""

from __future__ import annotations

import os

from tests.support import topics

_suffix = os.environ["LOOM_TEST_SUFFIX"]

# Topics are found as names at the top of a module; so none is imported here under its own.
globals().update({topic.name.replace(".", "_"): topics.renamed(topic, _suffix) for topic in topics.SERVED})
