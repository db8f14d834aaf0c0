.DEFAULT_GOAL := help
.PHONY: help train test test-cluster lint docs clean

# The first Python 3.11 or 3.12 that really runs and can make an environment; make PYTHON=… overrides.
# A name on the PATH is not enough: pyenv leaves shims of versions that are not selected.
CAN_RUN := import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 13))
PYTHON ?= $(shell for python in python3.12 python3.11 python3; do \
	$$python -c '$(CAN_RUN)' >/dev/null 2>&1 && echo $$python && break; done)
RUN := .venv/bin/python -m
# Processes that run the tests, each on one thread. 0: one process, with output as it comes and --pdb.
WORKERS ?= 2

help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

train: .venv/.installed ## install if needed, then train; make train ARGS="mask=freeform data.size=64"
	$(RUN) csa_inpaint.train $(ARGS)

test: .venv/.installed ## install if needed, then run the tests; make test ARGS="tests/csa -x"
	$(RUN) pytest -n $(WORKERS) --dist loadfile $(ARGS)

test-cluster: .venv/.installed ## install if needed, then train on a Slurm of two nodes that the tests start on this machine
	$(RUN) pytest tests/cluster $(ARGS)

lint: .venv/.installed ## install if needed, then check style and types
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) mypy

docs: .venv/.installed ## build the documentation site into build/docs; a warning is an error
	$(RUN) pip install -q -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(RUN) mkdocs build

clean: ## remove the environment, caches and builds; trained runs stay
	rm -rf .venv build dist .mypy_cache .pytest_cache .ruff_cache
	find src tests benchmarks -name __pycache__ -type d -exec rm -rf {} +

.venv/.installed: pyproject.toml constraints.txt
	@if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then \
		'$(PYTHON)' -c '$(CAN_RUN)' 2>/dev/null || { \
			echo "$(or $(PYTHON),python) is no working Python 3.11 or 3.12 with venv: install one," \
				"or name it with make PYTHON=/path/to/python3.12" >&2; exit 1; }; \
		echo "Making .venv with $(PYTHON)"; \
		'$(PYTHON)' -m venv --clear .venv; \
	fi
	$(RUN) pip install -c constraints.txt -e '.[dev]'
	@touch $@
