"""What goes wrong with the local stack, as one line for a person."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType

from ingest.errors import FatalError


class LocalStackError(FatalError):
    """A part of the local stack can't be had, started or stopped. Says which, where, and what to do."""


def missing_extra(error: ModuleNotFoundError) -> LocalStackError:
    """For a package of the ``[local]`` extra that is not installed; says the command that installs it."""
    return LocalStackError(
        f"local stack: the Python package {error.name!r} is missing; pip install 'loom-ingest[local]'"
    )


def installed(module: str) -> ModuleType:
    """Import ``module``, which a package of the ``[local]`` extra brings, when it is needed.

    Raises:
        LocalStackError: the extra is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise missing_extra(error) from error


def package_directory(package: str) -> Path:
    """Where a package of the ``[local]`` extra is installed, without importing it.

    Raises:
        LocalStackError: the extra is not installed.
    """
    found = importlib.util.find_spec(package)
    if found is None or found.origin is None:
        raise missing_extra(ModuleNotFoundError(name=package))
    return Path(found.origin).parent
