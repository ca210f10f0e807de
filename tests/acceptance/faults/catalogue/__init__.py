"""All faults. Importing this package registers them."""

from tests.acceptance.faults.catalogue import (
    broker,
    database,
    load,
    locks,
    network,
    operators,
    poison,
    processes,
    topic,
)

__all__ = ["broker", "database", "load", "locks", "network", "operators", "poison", "processes", "topic"]
