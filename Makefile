# Two commands do all the set-up they need: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
LOCK := requirements/dev.txt

# Two processes, each with a stack of its own; one that has nothing left takes tests from the other.
PARALLEL := -n 2 --dist worksteal

REGISTRY ?=
IMAGE ?= kafka-to-db-consumer
TAG ?= $(shell sed -n 's/^version = "\(.*\)"$$/\1/p' pyproject.toml)
REPOSITORY = $(if $(REGISTRY),$(REGISTRY:/=)/)$(IMAGE)
NAME = $(REPOSITORY):$(TAG)
ENGINE = $(shell command -v docker || command -v podman)
NEEDS_ENGINE = test -n "$(ENGINE)" || { echo "Neither docker nor podman is on the PATH; install one of them" >&2; exit 1; }

.DEFAULT_GOAL := help
.PHONY: help setup demo test coverage faults bench lint docker docker-push image-test cluster-test lock clean

help:  ## what there is to do
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

setup: $(STAMP)  ## make .venv with everything that demo and tests need, from hashed locks

$(STAMP): $(LOCK) pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed; name one with PYTHON=python3.12 make $(MAKECMDGOALS)" >&2; exit 1; }
	@echo "Setting up $(VENV): about 200 MB of packages, this once …"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(LOCK)
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $(STAMP)

demo: $(STAMP)  ## a real Kafka, a real PostgreSQL, 60,000 messages, and the account at the end
	@$(BIN)/ingest demo

test: $(STAMP) lint  ## lint, types, layers and all tests, on the same real parts
	@$(BIN)/pytest $(PARALLEL)

coverage: $(STAMP)  ## the tests again, slower, and which lines they reach in the processes that run them
	@$(BIN)/pytest $(PARALLEL) --cov --cov-report=term:skip-covered

faults: $(STAMP)  ## every fault of the matrix, and docs/faults.md from what they did: about 25 minutes
	@$(BIN)/python -m tests.acceptance.faults

bench: $(STAMP)  ## P1 … P10 and the profile, docs/performance.md and the table of docs/sizing.md from them: over an hour
	@$(BIN)/python -m tests.benchmarks

lint: $(STAMP)  ## ruff, mypy and import-linter
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

docker:  ## build the image with docker or podman: IMAGE, TAG, REGISTRY; PYTHON_IMAGE for another base
	@$(NEEDS_ENGINE)
	@"$(ENGINE)" build --tag "$(NAME)" \
		--build-arg "REVISION=$(shell git describe --always --dirty --abbrev=40 --exclude '*' 2>/dev/null)" \
		$(if $(PYTHON_IMAGE),--build-arg "PYTHON_IMAGE=$(PYTHON_IMAGE)") .

docker-push:  ## push it, and say how helm installs what was pushed: REGISTRY, IMAGE, TAG as for the build
	@$(NEEDS_ENGINE)
	@case "$(NAME)" in */*) ;; *) \
		echo "Where to? REGISTRY=registry.example.org/team make docker docker-push" >&2; exit 1;; esac
	@"$(ENGINE)" push "$(NAME)" && \
		printf '%s\n' 'This installs it, or upgrades to it and keeps the other values of the release:' \
		'helm upgrade --install kafka-to-db-consumer helm/kafka-to-db-consumer -n loom-dev --reset-then-reuse-values \' \
		'  --set-string image.repository=$(REPOSITORY),image.tag=$(TAG),image.digest='

image-test: $(STAMP)  ## the image and compose.yaml, run on a Docker engine: docs/image.md
	@$(BIN)/python -m tests.image

cluster-test: $(STAMP)  ## chart, image and scripts on the test cluster of KUBECONFIG: docs/deployment/cluster-test.md
	@$(BIN)/python -m pytest tests/cluster --timeout=900 -o faulthandler_timeout=840

lock: $(STAMP)  ## resolve the dependencies anew
	@scripts/lock

clean:  ## remove .venv and caches
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .coverage
