# What one does with Usher, one target each; CI calls the same ones. A bare `make` lists them.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# uv where it is found; else it is installed into the environment, from the same index as everything.
UV     := $(shell command -v uv 2>/dev/null || echo $(BIN)/uv)
SETUP  := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo dev test lint bench fuzz soak e2e e2e-full docs format lock clean

help:  ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 12

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Usher needs Python 3.11 or later; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)

$(SETUP): $(BIN)/python requirements/dev.txt pyproject.toml
	@command -v uv >/dev/null || [ -x $(BIN)/uv ] || $(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

demo: $(SETUP)  ## Play Okta's and Entra's conversations against a fresh Usher, and check the result
	$(BIN)/python examples/demo.py

dev: $(SETUP)  ## Run everything on this machine until Ctrl-C, with the tenant of examples/acme.yaml
	$(BIN)/usher dev

test: $(SETUP)  ## Run all tests but those of e2e, against real servers that the tests start themselves
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(BIN)/python -m pytest -q --basetemp="$$folder/pytest" --ignore=tests/e2e

lint: $(SETUP)  ## Check style, types and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: PARTS := engine sizes creates revocations neighbours scales idles
bench: $(SETUP)  ## Measure, all or the PARTS given (docs/benchmarks.md); writes build/bench.json
	@for part in $(PARTS); do $(BIN)/python tests/bench/$$part.py || exit 1; done

fuzz: $(SETUP)  ## Send odd input to all that reads it, for FUZZ_SECONDS (60); what fails is kept in build/fuzz
	$(BIN)/python tests/fuzz/fuzz.py $(or $(FUZZ_SECONDS),60)

soak: $(SETUP)  ## Let clients work while everything fails, for SOAK_MINUTES (30), and check the history
	$(BIN)/python tests/faults/soak.py $(or $(SOAK_MINUTES),30)

e2e: $(SETUP)  ## Run the operator's tests on a Kubernetes API server, built once with Go, or on USHER_E2E_CONTEXT
e2e-full: $(SETUP)  ## The same, with the large sizes too

e2e: SIZES := -m "not full"
# Built before pytest runs, so that the minutes of the first time can be watched.
e2e e2e-full:
	@[ -n "$$USHER_E2E_CONTEXT" ] || $(BIN)/python tests/e2e/controlplane/builds.py
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && $(BIN)/python -m pytest -q --basetemp="$$folder/pytest" $(SIZES) tests/e2e

docs: $(SETUP)  ## Write what of the documentation is made out of the CRD and the chart's values
	$(BIN)/python tests/tools/crd_reference.py
	$(BIN)/python tests/tools/chart_values.py

format: $(SETUP)  ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --quiet .

# An index that the machine is set up with is used, but never written down.
COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header pyproject.toml

lock: $(BIN)/python  ## Refresh requirements/*.txt
	@command -v uv >/dev/null || $(BIN)/python -m pip install --quiet -r requirements/uv.txt
	$(UV) $(COMPILE) --upgrade --extra api --extra worker --extra operator -o requirements/runtime.txt
	$(UV) $(COMPILE) --upgrade --all-extras --group build -o requirements/dev.txt
	echo uv | $(UV) pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header - -o requirements/uv.txt

clean:  ## Remove what the other targets made in this folder
	rm -rf $(VENV) .usher build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
