"""What a service under test loads by ``LOOM_TOPICS``: the tests' topics under the names of one test."""

from __future__ import annotations

import os

from tests.support import topics

_suffix = os.environ["LOOM_TEST_SUFFIX"]

emotions = topics.renamed(topics.EMOTIONS, _suffix)
gps = topics.renamed(topics.GPS, _suffix)
likes = topics.renamed(topics.LIKES, _suffix)
archived = topics.renamed(topics.ARCHIVED, _suffix)
plain = topics.renamed(topics.PLAIN, _suffix)
