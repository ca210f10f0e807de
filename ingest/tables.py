"""What every table of the service shares: the naming convention and the service's own ``MetaData``.

Nothing in this module imports anything of the project.
"""

from __future__ import annotations

from sqlalchemy import MetaData

NAMING_CONVENTION = {
    "pk": "%(table_name)s_pkey",
    "uq": "%(table_name)s_%(column_0_N_name)s_key",
    "ck": "%(table_name)s_%(constraint_name)s_check",
    "ix": "%(table_name)s_%(column_0_N_name)s_idx",
}
"""PostgreSQL's own way of naming, made explicit so that a revision can name what it drops."""

service_metadata = MetaData(naming_convention=NAMING_CONVENTION)
"""The tables the service keeps for itself: the ledger, dead letters, fuses. Topics' tables live with their topics."""
