"""What the Dockerfile and ``compose.yaml`` promise, as far as it can be read, and what ``make docker`` runs.

``make image-test`` runs them; this is what can be known without a Docker engine.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from tests.helm.chart import render
from tests.support.database import ROOT

DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
OURS = ("migration", "consumer", "sample")


def instructions(name: str) -> list[str]:
    """The arguments of each of the Dockerfile's instructions of that name, continued lines joined."""
    joined = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", DOCKERFILE, flags=re.MULTILINE))
    return [" ".join(line.split()[1:]) for line in joined.splitlines() if line.split()[:1] == [name]]


def pins(lock: str) -> dict[str, str]:
    text = (ROOT / "requirements" / lock).read_text()
    return dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))


class TestDockerfile:
    def test_user_is_a_number(self) -> None:
        assert instructions("USER") == ["10001:10001"]

    def test_the_service_is_the_first_process_without_a_shell(self) -> None:
        assert instructions("ENTRYPOINT") == ['["ingest"]']
        assert instructions("CMD") == ['["run"]']

    def test_both_stages_stand_on_the_one_base_that_the_argument_names(self) -> None:
        assert [line.split()[0] for line in instructions("FROM")] == ["${PYTHON_IMAGE}"] * 2
        (default,) = [line for line in instructions("ARG") if line.startswith("PYTHON_IMAGE=")]
        assert re.fullmatch(r"PYTHON_IMAGE=python:3\.\d+-slim-\w+", default)

    def test_version_label_is_the_projects(self) -> None:
        (label,) = instructions("LABEL")
        assert f'org.opencontainers.image.version="{VERSION}"' in label

    def test_only_hashed_wheels_come_in(self) -> None:
        installs = re.findall(r"pip [^&]*?install [^&]*", " ".join(instructions("RUN")))
        assert len(installs) == 3
        for each in installs:
            assert "--no-deps" in each
            assert ("--require-hashes" in each and "--only-binary :all:" in each) or "--no-index" in each

    def test_nothing_needs_buildkit(self) -> None:
        assert re.search(r"--mount|--chmod|--link|<<|^# syntax", DOCKERFILE, re.MULTILINE) is None

    def test_all_that_it_copies_and_nothing_else_is_let_in(self) -> None:
        allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
        copied = {
            source.split("/")[0]
            for line in instructions("COPY")
            if not line.startswith("--from")
            for source in line.split()[:-1]
        }
        assert copied == allowed
        assert all((ROOT / name).exists() for name in allowed)
        assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"

    def test_what_builds_is_pinned_as_for_developers(self) -> None:
        assert "hatchling" in pins("build.txt")
        developers = pins("dev.txt")
        assert {name: version for name, version in pins("build.txt").items() if developers.get(name) != version} == {}


class TestCompose:
    def test_every_service_variable_is_a_setting(self) -> None:
        settings = set(re.findall(r"`(LOOM_\w+)`", (ROOT / "docs" / "settings.md").read_text()))
        named = {name for each in OURS for name in COMPOSE["services"][each]["environment"]}
        assert named >= {"LOOM_KAFKA_BOOTSTRAP_SERVERS", "LOOM_DATABASE_URL"}
        assert named <= settings

    def test_three_pools_fit_into_the_database(self) -> None:
        consumer = COMPOSE["services"]["consumer"]
        assert consumer["deploy"]["replicas"] * int(consumer["environment"]["LOOM_DB_MAX_POOL_SIZE"]) < 90

    def test_one_image_serves_all_of_ours_without_rights(self) -> None:
        for name in OURS:
            service = COMPOSE["services"][name]
            assert service["image"] == f"kafka-to-db-consumer:{VERSION}"
            assert service["read_only"] is True
            assert service["cap_drop"] == ["ALL"]
            assert service["security_opt"] == ["no-new-privileges:true"]

    def test_consumers_start_on_a_migrated_database_and_a_broker_that_serves(self) -> None:
        assert COMPOSE["services"]["consumer"]["depends_on"] == {
            "kafka": {"condition": "service_healthy"},
            "migration": {"condition": "service_completed_successfully"},
        }
        assert COMPOSE["services"]["migration"]["depends_on"] == {"timescaledb": {"condition": "service_healthy"}}

    def test_images_are_those_of_the_local_stack_and_never_the_latest(self) -> None:
        from ingest.local import docker

        images = {name: service["image"] for name, service in COMPOSE["services"].items()}
        assert images["kafka"] == docker.KAFKA_IMAGE
        assert images["timescaledb"] == docker.DATABASE_IMAGE
        assert all(re.search(r":(?!latest$)[\w.-]+$", image) for image in images.values())

    def test_no_port_is_open_to_the_network(self) -> None:
        ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
        assert ports
        assert all(port.startswith("127.0.0.1:") for port in ports)

    def test_the_base_is_the_dockerfiles(self) -> None:
        (default,) = [line for line in instructions("ARG") if line.startswith("PYTHON_IMAGE=")]
        base = default.partition("=")[2]
        for name in OURS:
            assert COMPOSE["services"][name]["build"]["args"] == {"PYTHON_IMAGE": f"${{PYTHON_IMAGE:-{base}}}"}


class Machine:
    """A PATH with what ``make`` needs and stand-ins for the engines, which write down how they were called."""

    def __init__(self, directory: Path, *engines: str) -> None:
        self._path = directory / "bin"
        self._path.mkdir()
        self._calls = directory / "calls"
        for program in ("make", "sh", "sed", "git"):
            found = shutil.which(program)
            assert found, f"{program} is needed"
            (self._path / program).symlink_to(found)
        for engine in engines:
            stand_in = self._path / engine
            stand_in.write_text(f'#!/bin/sh\nprintf "%s\\n" {engine} "$@" >> {self._calls}\n')
            stand_in.chmod(0o755)

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if name not in ("REGISTRY", "IMAGE", "TAG")}
        return subprocess.run(
            ["make", "--no-print-directory", *arguments],
            cwd=ROOT,
            env=clean | {"PATH": str(self._path), "MAKEFLAGS": ""},
            capture_output=True,
            text=True,
            check=False,
        )

    @property
    def calls(self) -> list[str]:
        return self._calls.read_text().splitlines() if self._calls.exists() else []


class TestMake:
    def test_docker_builds_under_the_projects_version(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, "docker", "podman")
        assert machine.make("docker").returncode == 0
        *before, argument, context = machine.calls
        assert before == ["docker", "build", "--tag", f"kafka-to-db-consumer:{VERSION}", "--build-arg"]
        assert re.fullmatch(r"REVISION=([0-9a-f]{40}(-dirty)?)?", argument)
        assert context == "."

    def test_registry_image_and_tag_name_it(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, "docker")
        named = ("REGISTRY=registry.example.org/team/", "IMAGE=sink", "TAG=7")
        assert machine.make("docker", "docker-push", *named).returncode == 0
        name = "registry.example.org/team/sink:7"
        assert machine.calls[:4] == ["docker", "build", "--tag", name]
        assert machine.calls[-3:] == ["docker", "push", name]

    @pytest.mark.parametrize("named", [(), ("IMAGE=sink", "TAG=1.10")], ids=["as it comes", "named"])
    def test_a_push_says_how_helm_installs_what_was_pushed(self, tmp_path: Path, named: tuple[str, ...]) -> None:
        machine = Machine(tmp_path, "docker")
        printed = machine.make("docker-push", "REGISTRY=registry.example.org/team", *named).stdout
        (command,) = re.findall(r"^helm upgrade --install (.*)", printed.replace("\\\n", " "), re.MULTILINE)
        release, chart, *options = command.split()
        assert (release, chart) == ("kafka-to-db-consumer", "helm/kafka-to-db-consumer")
        assert options[:4] == ["-n", "loom-dev", "--reset-then-reuse-values", "--set-string"]
        pushed = machine.calls[-1]
        assert machine.calls[-3:] == ["docker", "push", pushed]
        # Also where the release had another tag, or was held by a digest.
        before: dict[str, Any] = {"tag": "0.0.9", "digest": f"sha256:{'0' * 64}"}
        values = {"image": before | helm.parse_set_string_values(options[4])["image"]}
        assert render(values).consumer["image"] == pushed

    def test_the_base_can_be_named_by_its_digest(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, "docker")
        assert machine.make("docker", f"PYTHON_IMAGE=python@sha256:{'0' * 64}").returncode == 0
        assert machine.calls[-3:] == ["--build-arg", f"PYTHON_IMAGE=python@sha256:{'0' * 64}", "."]

    def test_podman_serves_where_docker_is_not(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, "podman")
        assert machine.make("docker", "docker-push", "REGISTRY=registry.example.org").returncode == 0
        assert machine.calls[:2] == ["podman", "build"]
        assert machine.calls[-3:] == ["podman", "push", f"registry.example.org/kafka-to-db-consumer:{VERSION}"]

    @pytest.mark.parametrize("target", ["docker", "docker-push"])
    def test_without_either_it_says_what_is_missing(self, tmp_path: Path, target: str) -> None:
        done = Machine(tmp_path).make(target, "REGISTRY=registry.example.org")
        assert done.returncode != 0
        assert done.stderr.splitlines()[0] == "Neither docker nor podman is on the PATH; install one of them"

    def test_a_push_without_a_registry_asks_for_one(self, tmp_path: Path) -> None:
        machine = Machine(tmp_path, "docker")
        done = machine.make("docker-push")
        assert done.returncode != 0
        assert "REGISTRY=" in done.stderr.splitlines()[0]
        assert machine.calls == []
