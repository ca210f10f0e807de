"""The topics that the service ships with, one file each, and the loading of anybody else's.

>>> load_topics(["ingest.topics", "acme.topics"])  # doctest: +SKIP
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType

from ingest.errors import SettingsError
from ingest.topics.contract import Contract
from ingest.topics.topic import Append, FirstWins, FollowUp, LastWins, Topic, Version, Write

__all__ = [
    "Append",
    "Contract",
    "FirstWins",
    "FollowUp",
    "LastWins",
    "Topic",
    "Version",
    "Write",
    "load_topics",
]


def load_topics(import_paths: Iterable[str]) -> dict[str, Topic]:
    """Topics by name: every ``Topic`` at the top of the modules named, and of the modules inside a package named.

    Raises SettingsError when a module can't be imported, holds no topic, or two topics share a name.
    """
    topics: dict[str, Topic] = {}
    for path in import_paths:
        found = [value for module in _modules(path) for value in vars(module).values() if isinstance(value, Topic)]
        if not found:
            raise SettingsError(f"LOOM_TOPICS: {path} holds no topic; a topic is a `Topic(...)` at the top of a module")
        for topic in found:
            if topics.setdefault(topic.name, topic) is not topic:
                raise SettingsError(f"LOOM_TOPICS: two different topics are named {topic.name}")
    return topics


def _modules(path: str) -> list[ModuleType]:
    try:
        module = importlib.import_module(path)
        inside = [
            importlib.import_module(f"{path}.{info.name}")
            for info in pkgutil.iter_modules(getattr(module, "__path__", ()))
        ]
    except Exception as error:  # somebody's module may raise anything
        raise SettingsError(f"LOOM_TOPICS: can't load {path}: {type(error).__name__}: {error}") from error
    return [module, *inside]
