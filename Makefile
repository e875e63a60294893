# What a developer does, each a word. `make help` lists it.
#
#   PYTHON=python3.12   the interpreter that a new environment is made from
#   VENV=/some/venv     another environment, which may exist already
#   MODEL=model         the folder in which `make model` works
#   ARGS='-k windows'   passed on by the targets of tests, bench and quickstart

PYTHON ?= python3
VENV ?= .venv
ARGS ?=
MODEL ?= model
FAST := not ray and not cluster and not s3 and not slow
# On two processes; tests/conftest.py says which tests stay together, and in which order they begin.
TWO := -n 2 --dist loadscope --no-loadscope-reorder
BIN := $(VENV)/bin
# Beside each other and beside servers, so with one thread each; where a test has two, the one that waits does not spin.
PYTEST := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive $(BIN)/python -m pytest
PIP_INSTALL := $(BIN)/python -m pip install -c constraints.txt

# A stamp says which pyproject.toml and constraints.txt an environment was made from.
RUNTIME := $(VENV)/.restore-dit-runtime
DEVELOPMENT := $(VENV)/.restore-dit-development

export RAY_USAGE_STATS_ENABLED ?= 0

.DEFAULT_GOAL := help
.PHONY: help install quickstart model test test-browser test-cluster test-fast test-faults check image-check format-check lint types imports format bench docs hooks clean

help: ## list what there is to do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-13s %s\n", $$1, $$2}' Makefile

install: $(DEVELOPMENT) ## make the environment, with what development needs

quickstart: $(RUNTIME) ## fill a series with the shipped model, then train a small one, on this machine
	$(BIN)/restore-dit quickstart $(ARGS)

model: $(RUNTIME) ## train the model that ships, on simulated tiles: 40 minutes on 2 cores
	mkdir -p $(MODEL)
	cd $(MODEL) && $(abspath $(BIN))/restore-dit simulate stores/varied --tiles 2000 --seed 1 varied=true height=48 width=48
	cd $(MODEL) && $(abspath $(BIN))/restore-dit train --config default data.store=stores/varied
	cd $(MODEL)/runs/default/model && cp config.yaml model.safetensors normalisation.json metrics.json training_data.json \
		$(CURDIR)/restore_dit/models/default/

test: $(DEVELOPMENT) ## every test but those of the next three
	$(PYTEST) $(TWO) -m "not cluster and not faults and not browser" $(ARGS)

test-faults: $(DEVELOPMENT) ## tests that kill parts of jobs, sweeps and services and wait for what comes of it
	$(PYTEST) -m faults $(ARGS)

test-browser: $(DEVELOPMENT) ## the viewer in Chromium
	$(PYTEST) -m browser $(ARGS)

test-cluster: $(DEVELOPMENT) ## tests that start clusters of several nodes
	$(PYTEST) -m cluster $(ARGS)

test-fast: $(DEVELOPMENT) ## every test that needs neither Ray nor an S3 server nor much time
	$(PYTEST) $(TWO) -m "$(FAST)" $(ARGS)

check: format-check lint types imports ## format, lint, types, arrows between packages

format-check: $(DEVELOPMENT)
	$(BIN)/ruff format --check .

lint: $(DEVELOPMENT)
	$(BIN)/ruff check .

types: $(DEVELOPMENT)
	$(BIN)/mypy

imports: $(DEVELOPMENT)
	$(BIN)/lint-imports --no-logo

format: $(DEVELOPMENT) ## rewrite what format and lint can mend by themselves
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

image-check: ## the container image's steps, in a fresh Debian; needs root and debootstrap, takes 4 minutes
	cluster/image/check.sh

bench: $(RUNTIME) ## measure: each benchmark prints a table and a JSON line
	$(BIN)/python -m benchmarks $(ARGS)

docs: $(DEVELOPMENT) ## the guides and the Python reference as a site, in build/site
	$(BIN)/mkdocs build --quiet

hooks: $(DEVELOPMENT) ## run the checks before every commit
	$(BIN)/pre-commit install

clean: ## remove caches and builds, but neither the environment nor results
	rm -rf build dist *.egg-info .pytest_cache .hypothesis .ruff_cache .mypy_cache .import_linter_cache
	find restore_dit jobs tuning serving cluster tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv "$(VENV)"

$(RUNTIME): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e .
	touch "$@"

$(DEVELOPMENT): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP_INSTALL) -e '.[dev]'
	touch "$(RUNTIME)" "$@"
