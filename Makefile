# The front door: `make help` lists what it can do. Every target does its own
# set-up, once; stamp files in $(VENV) and .make/ remember what has been done.

PYTHON ?= python3
VENV   ?= .venv
# Size of each bulk transfer of `make demo`, for example 32MiB.
DEMO_SIZE ?= 256MiB
# Extra arguments of the page: make demo-browser DEMO_BROWSER_ARGS="--port 8081"
DEMO_BROWSER_ARGS ?=
# Extra arguments for the benchmarks: make bench BENCH_ARGS="--scenario bulk --compare old.json"
BENCH_ARGS ?=
# Extra arguments for pytest: make test-python PYTEST_ARGS="-k datagram"
PYTEST_ARGS ?=

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

BIN := $(VENV)/bin
PY  := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet

# A change in any of these rebuilds the extension.
SOURCES := setup.py pyproject.toml vendor/libraries.toml vendor/requirements.py \
  $(shell find pywebtransport/_quic -name '*.c' ! -name '_core.c' -o -name '*.h' -o -name '*.p[yx][xdi]')

define section
@printf '\n\033[1m== %s\033[0m\n' "$(1)"
endef

# --- set-up ----------------------------------------------------------------------

.PHONY: help
help: ## Show this list
	@echo "usage: make TARGET [PYTHON=python3.13] [VENV=.venv]"; echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(VENV)/.stamp-dev .make/system-test build ## System packages, virtualenv and build, with all development tools

.make/system-build: scripts/system-packages.sh scripts/system_packages.py vendor/libraries.toml vendor/requirements.py
	@scripts/system-packages.sh $(PYTHON) build
	@mkdir -p $(@D) && touch $@

.make/system-test: scripts/system-packages.sh scripts/system_packages.py vendor/libraries.toml vendor/requirements.py
	@scripts/system-packages.sh $(PYTHON) build test
	@mkdir -p $(@D) && touch $@ .make/system-build

$(PY): | .make/system-build
	$(PYTHON) -m venv $(VENV)

# What the demonstration needs; build requirements go in too, so that builds need no isolation.
$(VENV)/.stamp-demo: pyproject.toml scripts/requirements.py | $(PY)
	@mkdir -p .make
	@$(PY) scripts/requirements.py build runtime demo > .make/requirements-demo.txt
	$(PIP) install --requirement .make/requirements-demo.txt
	@touch $@

# Everything that testing, checking and documenting needs.
$(VENV)/.stamp-dev: pyproject.toml scripts/requirements.py $(VENV)/.stamp-demo | $(PY)
	@$(PY) scripts/requirements.py build runtime demo dev docs > .make/requirements-dev.txt
	$(PIP) install --requirement .make/requirements-dev.txt
	@touch $@

$(VENV)/.stamp-build: $(SOURCES) $(VENV)/.stamp-demo | .make/system-build
	$(call section,build)
	$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

.PHONY: build
build: $(VENV)/.stamp-build ## Build the extension and install the package in the virtualenv

.PHONY: debug
debug: $(VENV)/.stamp-demo .make/system-build ## Build again without optimisation, with debug symbols and engine checks
	PYWEBTRANSPORT_DEBUG=1 $(PIP) install --no-build-isolation --no-deps --editable .
	@rm -f $(VENV)/.stamp-build # the next ordinary build replaces it

# --- show ------------------------------------------------------------------------

.PHONY: demo
demo: build ## Server and client exchange datagrams, streams and two large transfers
	$(call section,demo)
	@DEMO_SIZE=$(DEMO_SIZE) $(PY) -m examples.demo

.PHONY: demo-browser
demo-browser: build ## The same in your browser, from a page on http://localhost:8080
	$(call section,demo in a browser)
	@$(PY) -m examples.demo.browser $(DEMO_BROWSER_ARGS)

# --- check -----------------------------------------------------------------------

.PHONY: test
test: ## Everything that CI runs: lint, types, C tests, docs, Python tests with coverage
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory types
	@$(MAKE) --no-print-directory test-engine
	@$(MAKE) --no-print-directory docs
	@$(MAKE) --no-print-directory test-python

.PHONY: test-engine
test-engine: .make/system-build ## C unit tests of the engine
	$(call section,C engine tests)
	@$(MAKE) --no-print-directory -C tests/engine check

.PHONY: test-python
test-python: setup ## Python tests, in a browser too, with the branch coverage gate
	$(call section,Python tests)
	@$(PY) -m pytest --cov --cov-report=term:skip-covered --cov-report=xml:.make/coverage.xml \
	  $(PYTEST_ARGS) tests

.PHONY: test-versions
test-versions: ## Python tests on each of python3.11, python3.12 and python3.13 that is there
	@for version in 3.11 3.12 3.13; do \
	  if python$$version -c '' 2>/dev/null; then \
	    $(MAKE) --no-print-directory PYTHON=python$$version VENV=.venv-$$version test-python; \
	  else echo "python$$version is not on PATH: left out"; fi; \
	done

.PHONY: test-browser
test-browser: setup ## Tests in Chromium and Firefox, the demonstration page included, and with Deno and @moq/web-transport
	$(call section,browser tests)
	@$(PY) -m pytest $(PYTEST_ARGS) tests/browser tests/interop/test_deno.py tests/interop/test_moq.py

.PHONY: sanitize
sanitize: setup ## C tests and Python tests under AddressSanitizer and UndefinedBehaviorSanitizer
	$(call section,C engine tests under sanitizers)
	@$(MAKE) --no-print-directory -C tests/engine SAN=1 check
	$(call section,Python tests under sanitizers)
	@scripts/sanitize.sh $(PYTHON) $(PYTEST_ARGS)

.PHONY: lint
lint: $(VENV)/.stamp-dev ## Style: ruff, formatting, shellcheck where installed
	$(call section,lint)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@scripts/lint-shell.sh

.PHONY: format
format: $(VENV)/.stamp-dev ## Format the Python sources
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

.PHONY: types
types: setup ## mypy --strict over package, examples and typing tests
	$(call section,types)
	@$(BIN)/mypy pywebtransport vendor examples
	@$(BIN)/mypy scripts

.PHONY: fuzz
fuzz: .make/system-build ## Fuzz the parsers of the engine, FUZZ_SECONDS=60 each
	$(call section,fuzz)
	@scripts/system-packages.sh $(PYTHON) fuzz
	@scripts/fuzz.sh

# What the runner and its plots need; the libraries that it compares get virtualenvs of their own.
$(VENV)/.stamp-benchmark: pyproject.toml scripts/requirements.py $(VENV)/.stamp-demo | $(PY)
	@mkdir -p .make
	@$(PY) scripts/requirements.py benchmark > .make/requirements-benchmark.txt
	$(PIP) install --requirement .make/requirements-benchmark.txt
	@touch $@

.PHONY: bench
bench: build $(VENV)/.stamp-benchmark ## Benchmarks against other libraries: about half an hour, report in build/benchmark
	$(call section,benchmarks)
	@$(PY) -m tests.benchmark $(BENCH_ARGS)

.PHONY: bench-quick
bench-quick: build $(VENV)/.stamp-benchmark ## The same in three minutes, less exact
	$(call section,quick benchmarks)
	@$(PY) -m tests.benchmark --quick $(BENCH_ARGS)

.PHONY: bench-guard
bench-guard: build ## Instruction counts of fixed workloads against the record, 5 % tolerance (valgrind)
	$(call section,regression guard)
	@$(PY) -m tests.benchmark.guard

.PHONY: bench-guard-record
bench-guard-record: build ## Record the counts of this Python and these libraries
	$(call section,regression guard: record)
	@$(PY) -m tests.benchmark.guard --record

.PHONY: docs
docs: setup ## Build the documentation into docs/_build/html; a warning is an error
	$(call section,documentation)
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# --- release and cleaning ----------------------------------------------------------

.PHONY: dist
dist: $(VENV)/.stamp-dev ## Source distribution and wheel, into dist/
	@$(PY) -m build --no-isolation

.PHONY: clean
clean: ## Remove everything that was built, virtualenvs included
	rm -rf $(VENV) .venv-3.* .venv-asan .venv-peers .venv-deno .venv-benchmark .make build dist docs/_build docs/reference/_generated *.egg-info \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	rm -f pywebtransport/_quic/_core.c pywebtransport/_quic/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@if [ -f tests/engine/Makefile ]; then $(MAKE) --no-print-directory -C tests/engine clean; fi
