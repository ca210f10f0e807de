"""The fault matrix: every fault against real processes, a real Kafka and a real PostgreSQL, counted by identity.

``make faults`` runs all of it and writes ``docs/faults.md``; ``tests/acceptance/test_faults.py`` runs a subset by the
same code. A *fault* breaks something in a *world* while *traffic* flows; the *verdict* compares what was sent with what
stands in the tables, message by message.
"""
