"""``python -m tests.cluster.images DIRECTORY``: the images of these tests as archives, where no registry is.

Official images where the engine can pull them, else the stand-ins of ``tests/image``. Where the database's has no
TimescaleDB, the tests need ``LOOM_TEST_TIMESCALE=off``.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from string import Template

from alembic.script import ScriptDirectory

from tests.cluster.names import FIX_IMAGE, IMAGE, NEXT_COLUMN, NEXT_REVISION, RELEASES
from tests.image import box, images
from tests.image.images import run
from tests.support.database import ROOT

HERE = Path(__file__).parent


def main(directory: Path) -> int:
    """Builds and saves; makes an engine for the time where none answers."""
    if not box.engine_answers():
        return box.run([sys.executable, "-m", "tests.cluster.images", str(directory.resolve())])
    line = (ROOT / "Dockerfile").read_text().partition("ARG PYTHON_IMAGE=")[2].splitlines()[0]
    base = images.python(line)
    kafka = images.kafka()
    database = images.database()
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


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
