"""``python -m tests.cluster.images DIRECTORY``: the images of these tests as archives, where no registry is.

Official images where the engine can pull them, else the stand-ins of ``tests/image``. The database's stand-in has
TimescaleDB where this machine's PostgreSQL has it (:data:`PG_CONFIG`), else none: then ``LOOM_TEST_TIMESCALE=off``.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from string import Template

from alembic.script import ScriptDirectory

from ingest.local import docker
from tests.cluster.names import FIX_IMAGE, IMAGE, NEXT_COLUMN, NEXT_REVISION, RELEASES
from tests.image import box, images
from tests.image.images import run
from tests.support.database import ROOT

PG_CONFIG = Path(os.environ.get("LOOM_TEST_PG_CONFIG", "/usr/lib/postgresql/15/bin/pg_config"))
HERE = Path(__file__).parent
STAND_IN = HERE / "stand_ins" / "timescaledb"


def main(directory: Path) -> int:
    """Builds and saves; makes an engine for the time where none answers."""
    if not box.engine_answers():
        return box.run([sys.executable, "-m", "tests.cluster.images", str(directory.resolve())])
    line = (ROOT / "Dockerfile").read_text().partition("ARG PYTHON_IMAGE=")[2].splitlines()[0]
    base = images.python(line)
    kafka = images.kafka()
    database = _database(base)
    run("make", "-C", ROOT, "docker")
    run("docker", "tag", IMAGE, FIX_IMAGE)
    for name, image in RELEASES.items():
        _make_release(name, image)
    directory.mkdir(parents=True, exist_ok=True)
    saved = {
        "service": (IMAGE, FIX_IMAGE, *RELEASES.values()),
        "kafka": (kafka.name,),
        "database": (database.name,),
    }
    for archive, names in saved.items():
        run("docker", "save", "--output", directory / f"{archive}.tar", *names)
    for image in (base, kafka, database):
        box.say(f"{image.name}: {image.stand_in or 'official image'}")
    return 0


def _make_release(name: str, image: str) -> None:
    head = ScriptDirectory(str(ROOT / "migrations")).get_current_head()
    table, column = NEXT_COLUMN
    with tempfile.TemporaryDirectory(prefix="loom-release-") as made:
        context = Path(made)
        shutil.copytree(HERE / "releases" / name, context, dirs_exist_ok=True)
        for revision in context.glob("revision.py"):
            text = Template(revision.read_text())
            revision.write_text(text.substitute(revision=NEXT_REVISION, head=head, table=table, column=column))
        run("docker", "build", "--quiet", "--tag", image, "--build-arg", f"SERVICE={IMAGE}", context)


def _database(base: images.Image) -> images.Image:
    pulled = subprocess.run(["docker", "pull", "--quiet", docker.DATABASE_IMAGE], capture_output=True, check=False)
    if pulled.returncode == 0 or not PG_CONFIG.exists():
        return images.database()
    library, share, programs = (
        Path(run(PG_CONFIG, f"--{what}").strip()) for what in ("pkglibdir", "sharedir", "bindir")
    )
    if not (share / "extension" / "timescaledb.control").exists():
        return images.database()
    with tempfile.TemporaryDirectory(prefix="loom-stand-in-") as made:
        context = Path(made)
        shutil.copytree(STAND_IN, context, dirs_exist_ok=True)
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
        arguments = ("--build-arg", f"BASE={base.name}", "--build-arg", f"PROGRAMS={programs}")
        run("docker", "build", "--quiet", "--tag", docker.DATABASE_IMAGE, *arguments, context)
    return images.Image(docker.DATABASE_IMAGE, "PostgreSQL of this machine with its TimescaleDB and pgvector", 0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
