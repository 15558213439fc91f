# Two commands are all it takes: `make run` and `make test`. Both set up .venv first; nothing needs to be done before.
# Another Python: make run PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
# pip says nothing but what matters; PIP_* settings of your own are respected.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet -c constraints.txt

.PHONY: help setup run test lint repro sweep ui bench clean

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "  make %-6s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed  ## .venv with the package and what it needs (about 5 GB, minutes)

run: setup  ## the main job on the embedded default: rank the channels of a small network
	@$(BIN)/python -m pipeline

test: .venv/installed-dev  ## all tests
	@$(BIN)/python -m pytest -n auto --dist loadgroup $(ARGS)

lint: .venv/installed-dev  ## what CI checks besides the tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

repro: .venv/installed-dev  ## the same pipeline through DVC
	@PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro

sweep: setup  ## the three layers of the embedded default, one run each
	@$(BIN)/python -m pipeline --multirun layer=conv1,conv2,conv3

ui: setup  ## MLflow's pages over the runs made here
	@$(BIN)/python -m pipeline.ui

bench: .venv/installed-dev  ## speed, side by side in one run
	@$(BIN)/python -m benchmarks

clean:  ## remove what runs and tools have made; .venv and the weights shipped stay
	find outputs -mindepth 1 ! -name README.md -delete
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python must be 3.11 or newer; got $$($(PYTHON) --version 2>&1). Set PYTHON=python3.11 (or newer)." >&2; exit 1; }
	@echo "Setting up .venv: torch, MLflow and the rest, about 5 GB. This is done once and takes some minutes."
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/python pyproject.toml constraints.txt
	@$(PIP) -e .
	@touch $@

.venv/installed-dev: .venv/installed
	@$(PIP) -e ".[dev]"
	@$(PIP) --no-deps hydra-ray-launcher
	@touch $@
