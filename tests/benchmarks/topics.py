"""What a service under measurement loads by ``LOOM_TOPICS``: Loom's topics under the names of one load.

The names come as JSON in ``BENCHMARK_TOPICS``: Loom's name → the name in the broker.
"""

from __future__ import annotations

import dataclasses
import json
import os

from ingest.topics import load_topics

_loom = load_topics(["ingest.topics"])

# Topics are found as names at the top of a module; so none is imported here under its own.
globals().update(
    {
        name.replace(".", "_"): dataclasses.replace(_loom[name], name=renamed)
        for name, renamed in json.loads(os.environ["BENCHMARK_TOPICS"]).items()
    }
)
