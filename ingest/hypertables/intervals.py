"""Lengths of time, as declarations give them and as PostgreSQL reads them."""

from __future__ import annotations

from datetime import timedelta


def days(count: float) -> timedelta:
    """So many days."""
    return timedelta(days=count)


def hours(count: float) -> timedelta:
    """So many hours."""
    return timedelta(hours=count)


def minutes(count: float) -> timedelta:
    """So many minutes."""
    return timedelta(minutes=count)


def interval(length: timedelta) -> str:
    """A length as PostgreSQL's interval reads it.

    >>> interval(timedelta(days=1, hours=6)), interval(timedelta(minutes=5)), interval(timedelta(milliseconds=1500))
    ('1 day 6 hours', '5 minutes', '1.5 seconds')
    """
    left, seconds = divmod(length.seconds, 60)
    parts = [
        (length.days, "day"),
        (left // 60, "hour"),
        (left % 60, "minute"),
        (seconds + length.microseconds / 1_000_000, "second"),
    ]
    written = [
        f"{f'{count:f}'.rstrip('0').rstrip('.')} {unit}{'' if count == 1 else 's'}" for count, unit in parts if count
    ]
    return " ".join(written) or "0 seconds"


def positive(what: str, length: timedelta) -> None:
    if not isinstance(length, timedelta):
        raise TypeError(f"{what} is a timedelta such as days(1), not {length!r}")
    if length <= timedelta(0):
        raise ValueError(f"{what} {length} is not positive")
