"""TimescaleDB in Alembic: operations with their reverses, autogenerate, and what to do where the extension is missing.

Importing this package teaches Alembic ``op.create_hypertable`` and its like (:mod:`.operations`), and its autogenerate
to compare the declarations of :mod:`ingest.hypertables` with the live catalog (:mod:`.autogenerate`). An ``env.py``
needs::

    import ingest.timescale

    context.configure(..., timescale="required", include_object=ingest.timescale.object_filter([metadata]))

``timescale`` is a :class:`Mode`: ``required`` (default), ``auto`` or ``off``. The same revisions serve all three.
Needs nothing of the project but :mod:`ingest.hypertables` and :mod:`ingest.errors`.
"""

from ingest.timescale import autogenerate, render
from ingest.timescale.autogenerate import object_filter
from ingest.timescale.capability import Mode

__all__ = ["Mode", "autogenerate", "object_filter", "render"]
