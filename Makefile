# Retort: `make help` lists the targets. `make demo` and `make test` do all set-up themselves.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin

# One environment for every target: no phone-home, no self-installing libraries, settings inside the project.
export PATH := $(CURDIR)/$(BIN):$(PATH)
export DVC_NO_ANALYTICS = 1
export DO_NOT_TRACK = true
export PREFECT_SERVER_ANALYTICS_ENABLED = false
export PREFECT_FLOWS_HEARTBEAT_FREQUENCY = 30
export PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS = 300
export MLFLOW_DISABLE_TELEMETRY = true
export RAY_USAGE_STATS_ENABLED = 0
export MLFLOW_SERVER_ENABLE_JOB_EXECUTION = false
export YOLO_OFFLINE = true
export YOLO_AUTOINSTALL = false
export GOMP_SPINCOUNT = 10000
export YOLO_CONFIG_DIR = $(CURDIR)/.retort/ultralytics
# Container images often forbid Python to keep compiled files; every stage would then compile its libraries anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup demo test test-fast check format ui stack bench lock clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20

setup: $(VENV)/.installed ## set up .venv from requirements.lock (the other targets do this themselves)

# Retort itself is installed by the path of this folder: where that has changed, set-up finds what is there and mends it.
ifneq ($(shell cat $(VENV)/.installed 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.installed
endif

$(VENV)/.installed: requirements.lock pyproject.toml
	@infra/setup.sh "$(PYTHON)" "$(VENV)"
	@echo "$(CURDIR)" > $@

demo: setup ## run the whole pipeline on drawn boards; about ten minutes on two quiet cores
	@dvc repro
	@retort summary

test: setup ## every test that this machine can run
	@pytest --durations=25

test-fast: setup ## the tests of modules that are not marked slow; some five minutes on two cores
	@pytest -m "not slow" --durations=5

check: setup ## format, lint, types and import rules
	@ruff format --check .
	@ruff check .
	@mypy kd_steps flows
	@lint-imports

format: setup ## put the code into format
	@ruff format .
	@ruff check --fix .

ui: setup ## the MLflow and Prefect pages on loopback; Ctrl-C ends both
	@retort ui

stack: setup ## a plant's servers on loopback: PostgreSQL, MLflow, Prefect and a worker, S3, SSH; Ctrl-C ends all
	@retort stack

bench: setup ## the benchmarks; results go to tests/bench/results/
	@for file in tests/bench/{*_speed,cache_size}.py; do echo "== $$file"; python "$$file"; done

lock: ## resolve requirements.lock anew, for every Python that pyproject.toml allows
	@uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --fork-strategy fewest \
	  --generate-hashes --no-emit-index-url --no-annotate --no-header --upgrade -q -o requirements.lock

clean: ## remove what the stages made, but not DVC's cache, MLflow's store, the stack's or your data
	@rm -rf data/prepared data/unlabelled data/validated data/cache data/assistant_caches data/new_parts/held_out models metrics plots evaluation report
	@if [ -d .retort ]; then find .retort -mindepth 1 -maxdepth 1 ! -name stack -exec rm -rf {} +; fi
