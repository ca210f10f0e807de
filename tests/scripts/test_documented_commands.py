"""Whoever copies the commands of the pages about Kubernetes, one after the other, gets through.

make is the real one, and so are the scripts and the database. docker, helm and kubectl are stand-ins that know what
those programs know of these commands: a call that they don't understand fails.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import shlex
import shutil
import textwrap
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import helm_python as helm
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from tests.helm.chart import render
from tests.scripts.conftest import NAME, READY, Consumer, in_pods, sample
from tests.scripts.programs import Done, Programs, press_ctrl_c
from tests.support.database import ROOT

BLOCK = re.compile(r"^(?P<indent> *)```sh\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL)
HERE = "(--context [^ ]+ )?(-n|--namespace) loom-dev"
UPGRADE = f"upgrade --install {NAME} helm/{NAME} .*"
CREATE = "create secret generic [a-z-]+ -n loom-dev( --from-(literal=password=.+|file=[a-z.]+))+"
KAFKA = (
    "exec (-n loom-dev )?deployment/kafka -- /opt/kafka/bin/kafka-consumer-groups.sh"
    f" --bootstrap-server kafka:9092 --group {NAME} --describe"
)
TABLE = (
    "GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG CONSUMER-ID HOST CLIENT-ID\n"
    "group some.topic 0 100 100 0 loom-1-0 /10.0.0.1 loom-1\n"
)


def commands(page: str) -> list[str]:
    """The commands of the page's blocks of shell. What a block assigns stands before each of its later commands."""
    found: list[str] = []
    for block in BLOCK.finditer(page):
        assigned = ""
        for line in textwrap.dedent(block["text"]).replace("\\\n", " ").splitlines():
            if re.fullmatch(r"[A-Z]+=\S+|[A-Z]+=\$\([^)]+\)", line):
                assigned += f"{line}\n"
            elif line.strip() and not line.startswith("#"):
                found.append(assigned + line)
    return found


def section(page: str, heading: str) -> str:
    return page.split(f"\n## {heading}\n")[1].split("\n## ")[0]


README = section((ROOT / "README.md").read_text(), "On Kubernetes")
CHAPTER = (ROOT / "docs" / "deployment" / "README.md").read_text()
CHART_VALUES = (ROOT / "helm" / NAME / "values.yaml").read_text()
LAG = (ROOT / "docs" / "lag.md").read_text()


class HelmOptions(argparse.ArgumentParser):
    """What helm takes after ``upgrade``, as far as the pages use it."""

    def __init__(self) -> None:
        super().__init__(allow_abbrev=False, exit_on_error=False)
        self.add_argument("release")
        self.add_argument("chart")
        self.add_argument("-n", "--namespace", required=True)
        self.add_argument("--kube-context")
        self.add_argument("--install", action="store_true", required=True)
        self.add_argument("--set", action="append", default=[])
        self.add_argument("--set-string", action="append", default=[])
        self.add_argument("--reset-then-reuse-values", action="store_true")
        self.add_argument("--atomic", action="store_true")
        self.add_argument("--timeout")
        self.add_argument("--dry-run")

    def error(self, message: str) -> Any:
        raise AssertionError(f"helm upgrade does not understand: {message}")


@dataclass
class Release:
    """The chart's values in the cluster, by Helm's rule."""

    values: dict[str, Any] = field(default_factory=dict)

    def upgrade(self, arguments: list[str]) -> str:
        """The image that the pods then have."""
        options = HelmOptions().parse_args(arguments)
        if options.set or options.set_string:
            if not options.reset_then_reuse_values:
                self.values = {}
            for values in options.set:
                self.values = merged(self.values, helm.parse_set_string(values))
            for values in options.set_string:
                self.values = merged(self.values, helm.parse_set_string_values(values))
        return str(render(self.values).consumer["image"])


def merged(values: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    both = {key: merged(values[key], over[key]) for key in values.keys() & over.keys() if isinstance(over[key], dict)}
    return values | over | both


@pytest.fixture
async def platform(consumer: Consumer, engine: AsyncEngine, programs: Programs) -> AsyncIterator[Programs]:
    """A cluster in which three pods are ready and have caught up."""
    make = shutil.which("make")
    assert make, "this machine has no make"
    (programs.bin / "make").symlink_to(make)
    programs.stand_in("docker", "helm", "kubectl", "k3d", "kind", "minikube", "kafka-consumer-groups.sh")
    programs.on("kafka-consumer-groups.sh", f"--bootstrap-server kafka:9092 --group {NAME} --describe")
    programs.on("docker", "build --tag [^ ]+ .*")
    programs.on("docker", "push [^ ]+")
    for loads in (("k3d", "image import"), ("kind", "load docker-image"), ("minikube", "image load")):
        programs.on(loads[0], f"{loads[1]} {NAME}:[^ ]+")
    programs.on("helm", "upgrade --help", {"out": "  --reset-then-reuse-values\n"})
    programs.on("helm", f"show values helm/{NAME}", {"out": CHART_VALUES})
    programs.on("helm", "--kube-context .* history .*", {"code": 1, "err": "Error: release: not found\n"})
    programs.on("helm", f"(--kube-context [^ ]+ --namespace loom-dev )?{UPGRADE}")
    programs.on("helm", f"test {NAME} -n loom-dev --logs")
    programs.on("kubectl", f"{HERE} --request-timeout=10s get namespace .*", {"out": "namespace/loom-dev\n"})
    programs.on("kubectl", f"{HERE} .*get pods -l app.kubernetes.io/instance={NAME},.*component=migration .*")
    programs.on("kubectl", f"{HERE} rollout status .*")
    programs.on("kubectl", f"{HERE} .*get deployment {NAME} -o jsonpath={{.status.readyReplicas}}", {"out": "3"})
    for match, out in READY.items():
        programs.on("kubectl", f"{HERE} .*{match}", {"out": out})
    in_pods(programs, consumer)
    programs.on("kubectl", ".*exec deployment/kafka -- sh -c .*", {"out": TABLE}, first=True)
    programs.on("kubectl", f"{HERE} .*get (deployment|hpa) {NAME} .*[rR]eplicas.*")
    programs.on("kubectl", CREATE)
    programs.on("kubectl", KAFKA, {"out": TABLE})
    programs.on("kubectl", "exec -n loom-dev deployment/timescaledb -- psql -U loom -d loom -c SELECT .*")
    selected = "-l (app|app.kubernetes.io/component)=[a-z-]+"
    programs.on("kubectl", f"(get|describe) pods -n loom-dev {selected}")
    programs.on("kubectl", "delete [a-z,]+ -n loom-dev -l [^ ]+( in [^ ]+)?")
    programs.on("kubectl", f"top pods -n loom-dev( {selected})?", {"out": f"{NAME}-a 12m 120Mi\n"})
    programs.on("kubectl", f"logs -n loom-dev {selected} --prefix --tail=-?[0-9]+")
    sample(consumer, group=NAME)
    async with engine.connect():  # the pool has a connection
        yield programs


def run(programs: Programs, command: str) -> Done:
    """In the checkout. A question is answered with yes, and a watch is ended by Ctrl-C after its first look."""
    strict = ("-e", "-o", "pipefail", "-c", command)
    if "fix-consumer-lag.sh" in command and "--dry-run" not in command:
        return programs.bash_in_terminal(*strict, typed="yes\n")
    process = programs.start_bash(*strict)
    assert process.stdout
    if "--watch" not in command:
        out, err = process.communicate(timeout=60)
        return Done(process.returncode, out, err)
    seen = ""
    for line in process.stdout:
        seen += line
        if seen.endswith("\n\n") and "\nVerdict\n" in seen:  # the look is over
            break
    done = press_ctrl_c(process)
    return Done(done.code, seen + done.out, done.err)


@pytest.mark.parametrize(
    ("page", "context", "pushes"),
    [(README, "k3d-loom", 1), (CHAPTER, "k3d-loom", 2), (LAG, "my-cluster", 1)],
    ids=["README", "deployment", "lag"],
)
async def test_a_page_followed_line_by_line_succeeds_and_deploys_what_it_pushed(
    page: str, context: str, pushes: int, platform: Programs
) -> None:
    """Each push has a name of its own: where a node has an image of that name, Kubernetes pulls none."""
    platform.on("kubectl", "config current-context", {"out": f"{context}\n"})
    release = Release()
    pushed: list[str] = []
    seen = 0
    lines = commands(page)
    assert len(lines) >= 4
    for command in lines:
        done = await asyncio.to_thread(run, platform, command)
        assert done.code == 0, f"{command}\n{done.said}"
        for program, line in platform.all_calls()[seen:]:
            seen += 1
            if program == "docker" and line.startswith("push "):
                pushed.append(line.split()[1])
            elif program == "helm" and f" --install {NAME} " in line and "--dry-run" not in line:
                image = release.upgrade([word for word in shlex.split(line) if word != "upgrade"])
                assert image == pushed[-1], f"{command}\npushed before: {pushed}"
    assert platform.unknown_calls() == []
    assert len(pushed) == len(set(pushed)) == pushes
