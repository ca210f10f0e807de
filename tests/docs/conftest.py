"""The pages about TimescaleDB are run on a real one."""

from tests.timescale.conftest import timescale, timescale_url

__all__ = ["timescale", "timescale_url"]
