"""Every shell script of the project is one that shellcheck has nothing against."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.support.database import ROOT

SHELLCHECK = Path(sys.executable).with_name("shellcheck")


def is_shell(path: Path) -> bool:
    if path.suffix in (".sh", ".bash"):
        return True
    with path.open("rb") as file:
        first = file.readline(80)
    return first.startswith(b"#!") and first.split()[-1].split(b"/")[-1] in (b"sh", b"bash", b"dash")


def shell_scripts() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [path for path in files if path.is_file() and is_shell(path)]


SCRIPTS = shell_scripts()


def test_the_scripts_are_found() -> None:
    names = {str(path.relative_to(ROOT)) for path in SCRIPTS}
    assert {".ci/run", "scripts/lock", "scripts/lib/consumer.sh", "scripts/monitor-consumer-lag.sh"} <= names


def test_shellcheck_has_nothing_against_them() -> None:
    done = subprocess.run(
        [str(SHELLCHECK), "--external-sources", f"--source-path={ROOT}", *map(str, SCRIPTS)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
