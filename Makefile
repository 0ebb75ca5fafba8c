# Every target builds what it needs: a virtual environment in .venv, from pyproject.toml and the pinned constraints.txt.
PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL = $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

# mypy reads the renamed trees under their installed names here; it cannot follow an editable install that renames.
TYPING := build/typing

# Test processes side by side, of one thread each; tests of a file share what it builds.
JOBS ?= 2
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

export HF_HUB_OFFLINE := 1
export RAY_USAGE_STATS_ENABLED := 0

.DEFAULT_GOAL := help
.PHONY: help demo test test-fast lint format docs wheel clean

help:  ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

.venv/.runtime: pyproject.toml setup.py constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one, for example: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@echo "Installing into .venv: about 7 GB with PyTorch's own CUDA libraries, some minutes the first time."
	$(PIP_INSTALL) --editable ".[all]"
	@touch $@

.venv/.dev: .venv/.runtime
	$(PIP_INSTALL) --editable ".[dev]"
	@touch $@

demo: .venv/.runtime  ## Train IM-PPO on genuine recoveries, compare it with the schemes and the oracle, draw two pictures
	$(BIN)/noma-semcom demo

test: lint  ## Run the linters and then every test
	$(PYTEST)

test-fast: .venv/.dev  ## Run the tests without those marked slow
	$(PYTEST) -m "not slow"

lint: .venv/.dev $(TYPING)  ## Check style, formatting, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p noma_semcom_env -p noma_semcom_agents -p noma_semcom_benchmarks
	$(BIN)/lint-imports

format: .venv/.dev  ## Rewrite the sources in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: .venv/.dev  ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

wheel: .venv/.dev  ## Build the source archive and the wheel into dist/
	$(BIN)/python -m build

$(TYPING): Makefile
	@mkdir -p $@
	@ln -sfn ../../agents $@/noma_semcom_agents
	@ln -sfn ../../benchmarks $@/noma_semcom_benchmarks
	@touch $@

clean:  ## Remove the environment, caches and built files; trained models and tables in build/ stay
	rm -rf .venv $(TYPING) build/lib build/bdist.* dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
	  .hypothesis *.egg-info
