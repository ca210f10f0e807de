"""``docs/deployment`` says what the chart does."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any

import helm_python as helm
import yaml

from tests.helm.chart import CHART, LOADER, render
from tests.support.database import ROOT

DIRECTORY = ROOT / "docs" / "deployment"
CHAPTER = (DIRECTORY / "README.md").read_text()


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


def test_every_install_of_the_chapter_is_accepted() -> None:
    commands = re.findall(r"^helm upgrade --install .*?(?<!\\)$", CHAPTER, re.MULTILINE | re.DOTALL)
    assert len(commands) >= 3
    for command in commands:
        values = ",".join(re.findall(r"--set(?:-string)? (\S+)", command))
        render(helm.parse_set_string(values) if values else {})
