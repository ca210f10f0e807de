"""How fast the service is, measured beside what else could be picked (``make bench``).

A *measure* is one of P1 … P10: a question with a goal, asked in its module below ``measures/``. A *contender* is
whatever takes a topic into the table: the service, or a peer. A *trial* is one contender's run over one load, watched
from outside by :mod:`tests.benchmarks.watch`. Trials that are compared are interleaved, round by round.
"""
