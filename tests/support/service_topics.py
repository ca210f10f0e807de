"""What a service under test loads by ``LOOM_TOPICS``: the tests' topics under the names of one test."""

from __future__ import annotations

import os

from tests.support.topics import LOOM, PLAIN, renamed

_suffix = os.environ["LOOM_TEST_SUFFIX"]

# Topics are found as names at the top of a module.
globals().update({topic.name.replace(".", "_"): renamed(topic, _suffix) for topic in (*LOOM.values(), PLAIN)})
