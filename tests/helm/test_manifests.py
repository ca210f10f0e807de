"""``docs/deployment`` and the README say what the chart does, and their lines fit together."""

from __future__ import annotations

import itertools
import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import helm_python as helm
import pytest
import yaml

from tests.helm.chart import CHART, LOADER, NAME, Object, render
from tests.support.database import ROOT

DIRECTORY = ROOT / "docs" / "deployment"
CHAPTER = (DIRECTORY / "README.md").read_text()
README = (ROOT / "README.md").read_text()
pages = pytest.mark.parametrize("page", [README, CHAPTER], ids=["README", "chapter"])


def commands(page: str, *beginnings: str) -> list[list[str]]:
    """Commands of the page's shell blocks that begin so, as a shell splits them, in their order."""
    blocks = "".join(re.findall(r"^ *```sh\n(.*?)^ *```$", page, re.DOTALL | re.MULTILINE))
    lines = [line.strip() for line in blocks.replace("\\\n", " ").replace("$TAG", "0f1e2d3").splitlines()]
    return [shlex.split(line, comments=True) for line in lines if line.startswith(beginnings)]


def given(command: list[str]) -> str:
    """What a command gives by ``--set``."""
    return ",".join(value for option, value in itertools.pairwise(command) if option.startswith("--set"))


def merged(values: Object, over: Object) -> Object:
    both = {key: merged(values[key], over[key]) for key in values.keys() & over.keys() if isinstance(over[key], dict)}
    return values | over | both


def releases(page: str) -> Iterator[tuple[str, Object]]:
    """After each upgrade of the page: the image that was pushed last, and the values of the release, by Helm's rule:
    with none given, the last ones count; with any, only these, unless ``--reset-then-reuse-values`` keeps the others.
    """
    pushed = ""
    values: Object = {}
    for command in commands(page, "make docker docker-push", "helm upgrade"):
        if command[0] == "make":
            named = dict(argument.split("=") for argument in command[3:])
            pushed = f"{named['REGISTRY']}/{NAME}:{named.get('TAG', CHART.metadata['version'])}"
            continue
        if given(command):
            before = values if "--reset-then-reuse-values" in command else {}
            values = merged(before, helm.parse_set_string(given(command)))
        yield pushed, values


def test_rendered_manifests_are_current() -> None:
    printed = subprocess.run(
        [sys.executable, ROOT / "scripts" / "manifests"], capture_output=True, text=True, check=True
    ).stdout
    page = DIRECTORY / "manifests.yaml"
    assert page.read_text() == printed, "scripts/manifests > docs/deployment/manifests.yaml makes it anew"
    documents = [json.dumps(each, sort_keys=True) for each in yaml.load_all(printed, LOADER)]
    assert sorted(documents) == sorted(json.dumps(each, sort_keys=True) for _, each in render().objects)


def test_every_value_that_the_chapter_names_is_one() -> None:
    settings = set(re.findall(r"--set(?:-string)? ([\w.]+)=", CHAPTER))
    mentioned = set(
        re.findall(
            r"`((?:image|kafka|database|migration|autoscaling|keda|networkPolicy|serviceMonitor)\.[\w.]+)", CHAPTER
        )
    )
    assert len(settings | mentioned) > 10
    missing = []
    for path in sorted(settings | mentioned):
        value: Any = CHART.values
        for key in path.split("."):
            if value == {}:  # takes any key
                break
            if not isinstance(value, dict) or key not in value:
                missing.append(path)
                break
            value = value[key]
    assert missing == []


def test_every_values_file_of_the_chapter_is_accepted() -> None:
    blocks = re.findall(r"```yaml\n(.*?)```", CHAPTER, re.DOTALL)
    assert len(blocks) >= 3
    for block in blocks:
        assert render(yaml.safe_load(block)).deployment["kind"] == "Deployment"


@pages
def test_every_upgrade_is_accepted_and_runs_the_image_that_was_pushed(page: str) -> None:
    images = [(pushed, render(values).consumer["image"]) for pushed, values in releases(page)]
    assert [each for each in images if each[0] != each[1]] == []
    assert images


@pages
def test_a_later_upgrade_keeps_the_values_of_the_release(page: str) -> None:
    installs = 1 if page is README else len(commands(page.split("\n## Upgrade")[0], "helm upgrade"))
    later = commands(page, "helm upgrade")[installs:]
    assert len(later) >= 3 or page is README
    assert [line for line in later if given(line) and "--reset-then-reuse-values" not in line] == []


def test_an_install_without_values_runs_the_image_that_is_brought_to_the_nodes() -> None:
    brought = {command[-1] for tool in ("k3d", "kind", "minikube") for command in commands(CHAPTER, f"{tool} ")}
    assert brought == {render().consumer["image"]}
    assert any(not given(command) for command in commands(CHAPTER.split("\n## Upgrade")[0], "helm upgrade"))


def test_versions_that_are_needed_are_said() -> None:
    assert "Kubernetes 1.29 or newer, Helm 3.14 or newer" in CHAPTER
    for text in (CHAPTER, (ROOT / "helm" / NAME / "values.yaml").read_text()):
        assert re.search(r"KEDA,? 2\.10 or newer", text)


def test_all_that_an_uninstall_leaves_is_named_and_deleted_by_one_command() -> None:
    secret = {"create": True, "password": "p@ss"}
    rendered = render({"database": {"secret": secret}, "networkPolicy": {"enabled": True}})
    hooks = [each for _, each in rendered.objects if "helm.sh/hook" in each["metadata"].get("annotations", {})]
    assert all(each["kind"] in CHAPTER.split("`helm uninstall` leaves")[1] for each in hooks if each["kind"] != "Pod")
    (delete,) = commands(CHAPTER, "kubectl delete")
    assert {each["kind"].lower() for each in hooks} == set(delete[2].split(","))
    instance, components = re.fullmatch(
        r"app\.kubernetes\.io/instance=([\w-]+),app\.kubernetes\.io/component in \(([\w,]+)\)", delete[-1]
    ).groups()  # type: ignore[union-attr]
    labels = [each["metadata"]["labels"] for each in hooks]
    assert {each["app.kubernetes.io/instance"] for each in labels} == {instance}
    assert {each["app.kubernetes.io/component"] for each in labels} == set(components.split(","))
