# The main commands are `make run` and `make test`. Both set up .venv first, so no other step is needed.
# To use another Python interpreter: make run PYTHON=python3.12
PYTHON ?= python3
BIN := .venv/bin
# pip prints only warnings and errors; the user's PIP_* environment variables are respected.
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile -c constraints.txt
# pip would compile the 25,000 modules in one process. Some packages contain templates that are not valid Python.
COMPILE := $(BIN)/python -W ignore -m compileall -qq -j 0 .venv/lib || true

SCHEMA := $(BIN)/check-jsonschema --quiet --builtin-schema

.PHONY: help setup run test test-unit lint repro sweep ui notebooks docs gallery bench bench-gpu clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/installed  ## install the package and its dependencies into .venv (about 5 GB, takes minutes)

run: setup  ## rank the channels of the embedded default network
	@$(BIN)/python -m pipeline

test: .venv/installed-dev  ## run all tests (ARGS=... passes arguments to pytest)
	@$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder $(ARGS)

test-unit: .venv/installed-dev  ## run the unit tests, which end in about a second each
	@$(BIN)/python -m pytest -n auto --dist loadgroup -m unit $(ARGS)

lint: .venv/installed-dev  ## run the checks that CI runs besides the tests
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/hadolint Dockerfile
	@$(BIN)/actionlint -shellcheck= -pyflakes= .github/workflows/*.yml
	@$(SCHEMA) vendor.github-workflows .github/workflows/*.yml
	@$(SCHEMA) custom.github-workflows-require-timeout .github/workflows/*.yml
	@$(SCHEMA) vendor.dependabot .github/dependabot.yml
	@$(SCHEMA) vendor.github-issue-forms .github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/question.yml
	@$(SCHEMA) vendor.github-issue-config .github/ISSUE_TEMPLATE/config.yml
	@$(SCHEMA) vendor.citation-file-format CITATION.cff

repro: .venv/installed-dev  ## run the same pipeline with DVC
	@PATH="$(CURDIR)/$(BIN):$$PATH" dvc repro

sweep: setup  ## rank the three layers of the embedded default network, one run per layer
	@$(BIN)/python -m pipeline --multirun layer=conv1,conv2,conv3

ui: setup  ## open MLflow with the runs on this machine
	@$(BIN)/python -m pipeline.ui

notebooks: .venv/installed-dev  ## run the notebooks in examples/notebooks
	@$(BIN)/python examples/notebooks/run.py

docs: .venv/installed-dev  ## build the documentation into site/ (open site/index.html)
	@$(BIN)/python -m sphinx -E -W --keep-going -q -b html -d site/.doctrees docs site
	@echo "Open site/index.html"

gallery: .venv/installed-dev  ## make the figures of the gallery again (docs/gallery.md says what they need)
	@$(BIN)/python -m docs.gallery

bench: .venv/installed-dev  ## run the benchmarks
	@$(BIN)/python -m benchmarks

bench-gpu: .venv/installed-dev  ## compare the times and the scores on the CPU and on a CUDA GPU
	@$(BIN)/python -m benchmarks gpu

clean:  ## delete the outputs of runs and tools, but not .venv and the included weights
	find outputs -mindepth 1 ! -name README.md -delete
	rm -rf build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache

.venv/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "error: Python must be 3.11 or newer; got $$($(PYTHON) --version 2>&1). Set PYTHON=python3.11 (or newer)." >&2; exit 1; }
	@echo "Setting up .venv with torch, MLflow and other packages (about 5 GB). This is done once and takes a few minutes."
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/installed: .venv/python pyproject.toml constraints.txt
	@$(PIP) -e .
	@$(COMPILE)
	@touch $@

# On a new checkout, everything is installed at once.
.venv/installed-dev: .venv/python pyproject.toml constraints.txt
	@$(PIP) -e ".[dev]"
	@$(PIP) --no-deps hydra-ray-launcher
	@$(COMPILE)
	@touch .venv/installed $@
