# The front door: `make help` lists what it can do. Every target does its own
# set-up, once; stamp files in $(VENV) remember what has been done.

PYTHON ?= python3
VENV   ?= .venv
# Size of each bulk transfer of `make demo`, for example 32MiB.
DEMO_SIZE ?= 256MiB
# Extra arguments of it: make demo DEMO_ARGS=--help
DEMO_ARGS ?=
# Extra arguments of the page: make demo-browser DEMO_BROWSER_ARGS="--port 8081"
DEMO_BROWSER_ARGS ?=
# Extra arguments for the benchmarks: make bench BENCH_ARGS="--scenario bulk --compare old.json"
BENCH_ARGS ?=
# Seconds for each target, and names of targets, all by default: make fuzz FUZZ_TARGETS="h3_server"
FUZZ_SECONDS ?= 60
FUZZ_TARGETS ?=
# FUZZ_KEEP=1: what covers new code becomes the corpus.
FUZZ_KEEP ?=
# Attacks or groups of them, all by default: make attack ATTACKS="capsules streams"
ATTACKS ?=
# How long each of them goes on.
ATTACK_SECONDS ?= 5
# Phases, all by default: make soak SOAK_PHASES="streams churn"
SOAK_PHASES ?=
# What their counts and times are multiplied by.
SOAK_SCALE ?= 1
# Extra arguments for pytest: make test-python PYTEST_ARGS="-k datagram"
PYTEST_ARGS ?=
# How many processes share the Python tests; 0 runs them in one, without the tools for more.
# One more than there are processors: most of the time, one of them waits.
TEST_JOBS ?= $(shell expr $$(nproc) + 1)

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

# Hundreds of tests start a Python, which would compile every module of the package again.
unexport PYTHONDONTWRITEBYTECODE

BIN := $(VENV)/bin
PY  := $(BIN)/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet

# A change in any of these rebuilds the extension.
SOURCES := setup.py pyproject.toml vendor/libraries.toml vendor/requirements.py \
  $(shell find pywebtransport/_quic -name '*.c' ! -name '_core.c' -o -name '*.h' -o -name '*.p[yx][xdi]')

# For clang-format: all C but what Cython generates.
C_FILES = $(shell find pywebtransport tests -name '*.[ch]' ! -name '_core.c' ! -path '*/build/*')

define section
@printf '\n\033[1m== %s\033[0m\n' "$(1)"
endef

# Without stamps of a virtualenv that another Python made, or that was moved, all in it is made anew.
$(if $(wildcard $(VENV)/pyvenv.cfg),$(shell scripts/virtualenv.sh check $(PYTHON) $(VENV)))

# --- set-up ----------------------------------------------------------------------

.PHONY: help
help: ## Show this list
	@echo "usage: make TARGET [PYTHON=python3.13] [VENV=.venv]"; echo
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: system-lint system-test $(VENV)/.stamp-dev build ## System packages, virtualenv and build, with all development tools

# What a target needs of the system, by the groups of vendor/libraries.toml: looked for each time,
# since it takes a tenth of a second and nothing tells when a package goes.
SYSTEM := system-build system-engine system-python system-lint system-test system-sockets system-guard \
  system-fuzz
.PHONY: $(SYSTEM)
$(SYSTEM): system-%:
	@scripts/system-packages.sh $(PYTHON) $*

$(VENV)/.stamp-venv: | system-python
	@scripts/virtualenv.sh make $(PYTHON) $(VENV)
	@touch $@

# $(VENV)/.stamp-NAME: the requirements of these names in pyproject.toml are installed.
# Build requirements go in too, so that builds need no isolation.
NEEDS_base      := build runtime
NEEDS_demo      := demo
NEEDS_lint      := lint
NEEDS_types     := runtime demo test types
NEEDS_test      := demo dist test
NEEDS_docs      := docs
NEEDS_dist      := dist
NEEDS_benchmark := benchmark
NEEDS_fuzz      := demo fuzz test
NEEDS_dev       := build runtime demo dist docs lint test types

# What was installed for one name may be all that another needs: that one gets its stamp, too.
covered_by = $(foreach name,$(STAMPED),$(if $(filter-out $(NEEDS_$1),$(NEEDS_$(name))),,$(name)))
STAMPED := base demo lint types test docs dist

$(VENV)/.stamp-%: pyproject.toml scripts/requirements.py $(VENV)/.stamp-venv
	@$(PY) scripts/requirements.py $(NEEDS_$*) > $(VENV)/requirements-$*.txt
	$(PIP) install --requirement $(VENV)/requirements-$*.txt
	@touch $@
	@for name in $(call covered_by,$*); do \
	  stamp=$(VENV)/.stamp-$$name; [ -e $$stamp ] || touch $$stamp; \
	done

$(VENV)/.stamp-build: $(SOURCES) $(VENV)/.stamp-base | system-build
	$(call section,build)
	$(PIP) install --no-build-isolation --no-deps --editable .
	@touch $@

.PHONY: build
build: $(VENV)/.stamp-build ## Build the extension and install the package in the virtualenv

.PHONY: debug
debug: $(VENV)/.stamp-base | system-build ## Build again without optimisation, with debug symbols and engine checks
	PYWEBTRANSPORT_DEBUG=1 $(PIP) install --no-build-isolation --no-deps --editable .
	@rm -f $(VENV)/.stamp-build # the next ordinary build replaces it

# --- show ------------------------------------------------------------------------

.PHONY: demo
demo: build $(VENV)/.stamp-demo ## Server and client exchange datagrams, streams and two large transfers
	$(call section,demo)
	@DEMO_SIZE=$(DEMO_SIZE) $(PY) -m examples.demo $(DEMO_ARGS)

.PHONY: demo-browser
demo-browser: build $(VENV)/.stamp-demo ## The same in your browser, from a page on http://localhost:8080
	$(call section,demo in a browser)
	@$(PY) -m examples.demo.browser $(DEMO_BROWSER_ARGS)

.PHONY: screenshots
screenshots: build $(VENV)/.stamp-test system-test ## Pictures of the example pages for the documentation, in headless Chromium
	$(call section,screenshots)
	@$(PY) -m tests.browser.screenshots

# --- check -----------------------------------------------------------------------

# Most of these checks use one processor: they run side by side, and each shows its output at its end.
SIDE_BY_SIDE = --jobs=$$(nproc) --output-sync=recurse

.PHONY: test
test: ## Lint, types, C tests, docs, Python tests with coverage; CI adds demo and test-debian13
	@$(MAKE) --no-print-directory setup
	@$(MAKE) --no-print-directory $(SIDE_BY_SIDE) types lint test-engine docs
	@$(MAKE) --no-print-directory test-python

.PHONY: test-engine
test-engine: system-engine ## C unit tests of the engine
	$(call section,C engine tests)
	@$(MAKE) --no-print-directory -C tests/engine $(if $(findstring jobserver,$(MAKEFLAGS)),,--jobs=$$(nproc)) all
	@$(MAKE) --no-print-directory -C tests/engine check

# A test that ends its process fails, and another process goes on with the rest.
IN_PARALLEL = --numprocesses $(TEST_JOBS) --dist worksteal

.PHONY: test-python
test-python: build system-test $(VENV)/.stamp-test ## Python tests, in a browser too, with the branch coverage gate
	$(call section,Python tests)
	@$(PY) -m pytest $(IN_PARALLEL) --cov --cov-report=term:skip-covered --cov-report=xml:.make/coverage.xml \
	  $(PYTEST_ARGS) tests

.PHONY: test-quic
test-quic: build $(VENV)/.stamp-test ## Python tests of the binding alone
	$(call section,tests of the binding)
	@$(PY) -m pytest $(IN_PARALLEL) $(PYTEST_ARGS) tests/quic

.PHONY: test-integration
test-integration: build system-sockets $(VENV)/.stamp-test ## Python tests of the binding and of real sockets
	$(call section,tests of binding and sockets)
	@$(PY) -m pytest $(IN_PARALLEL) $(PYTEST_ARGS) tests/quic tests/integration

.PHONY: test-bodies
test-bodies: build $(VENV)/.stamp-test ## HTTP requests and responses of 1 GiB, within 10 MiB of memory
	$(call section,large bodies)
	@PYWEBTRANSPORT_BODY_MIB=1024 $(PY) -m pytest $(PYTEST_ARGS) tests/integration/asgi/test_http_memory.py

# As a new user does it; scripts/debian_root.py says how. Needs root.
ON_BARE_SYSTEM := make demo DEMO_SIZE=32MiB; make test-engine; make test-quic
# Then a wheel of what was built there, after the libraries are gone.
WITHOUT_LIBRARIES := make built-wheel; \
  DEBIAN_FRONTEND=noninteractive apt-get -qq purge -y "libngtcp2*" libgnutls28-dev > /dev/null; \
  if ldconfig -p | grep ngtcp2; then exit 1; fi; \
  python3 scripts/try_wheel.py build/wheel/*.whl

.PHONY: test-debian13
test-debian13: system-python ## Demonstration, C tests, tests of the binding and a wheel on a bare Debian 13 (as root)
	$(call section,bare Debian 13)
	@$(PYTHON) scripts/debian_root.py trixie '$(ON_BARE_SYSTEM); $(WITHOUT_LIBRARIES)'

.PHONY: test-debian12
test-debian12: system-python ## The same on a bare Debian 12
	$(call section,bare Debian 12)
	@$(PYTHON) scripts/debian_root.py bookworm '$(ON_BARE_SYSTEM)'

# Newer ngtcp2, GnuTLS, compilers and Pythons than any release of Debian has.
NEWEST ?= trixie-backports sid
ON_NEWEST = make demo DEMO_SIZE=32MiB; make test-engine; make test-integration TEST_JOBS=$(TEST_JOBS)

.PHONY: test-newest
test-newest: system-python ## The same and tests of real sockets with the newest ngtcp2: backports of Debian 13, and sid (as root)
	@failed=; \
	for suite in $(NEWEST); do \
	  printf '\n\033[1m== %s\033[0m\n' "$$suite"; \
	  $(PYTHON) scripts/debian_root.py $$suite '$(ON_NEWEST); $(WITHOUT_LIBRARIES)' || failed+=" $$suite"; \
	done; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

# A new virtualenv gets the newest of everything that pyproject.toml names.
.PHONY: test-newest-web
test-newest-web: ## Tests of ASGI applications with the newest uvicorn, hypercorn, frameworks and clients
	@rm -rf .venv-newest-web .venv-newest-web.lock
	@$(MAKE) --no-print-directory VENV=.venv-newest-web web

.PHONY: web
web: build system-sockets $(VENV)/.stamp-test
	$(call section,tests of ASGI applications)
	@$(PY) -m pip --disable-pip-version-check freeze | \
	  grep -iE '^(uvicorn|httptools|wsproto|h11|hypercorn|h2|starlette|fastapi|quart|litestar|channels|django)='
	@$(PY) -m pytest $(IN_PARALLEL) $(PYTEST_ARGS) tests/integration/asgi

.PHONY: test-wheel
test-wheel: wheel ## Install the wheels on a bare Debian 12 and 13, and echo (as root)
	$(call section,wheel on a bare Debian 13)
	@$(PYTHON) scripts/debian_root.py --give "$$(echo dist/*-cp313-*.whl)" trixie '$(TRY_GIVEN)'
	$(call section,wheel on a bare Debian 12)
	@$(PYTHON) scripts/debian_root.py --give "$$(echo dist/*-cp311-*.whl)" bookworm '$(TRY_GIVEN)'

.PHONY: test-image
test-image: system-python ## Do what the Dockerfile says on a bare Debian 13, and probe the server of the image (as root)
	$(call section,image)
	@$(PYTHON) scripts/image.py

TRY_GIVEN := apt-get -qq update; \
  export DEBIAN_FRONTEND=noninteractive; \
  apt-get -qq install -y --no-install-recommends python3-venv > /dev/null; \
  apt-get -qq purge -y "libngtcp2*" > /dev/null; \
  if ldconfig -p | grep ngtcp2; then exit 1; fi; \
  python3 scripts/try_wheel.py dist/*.whl

.PHONY: test-versions
test-versions: ## Python tests on each of python3.11 to python3.14 that is there
	@for version in 3.11 3.12 3.13 3.14; do \
	  if python$$version -c '' 2>/dev/null; then \
	    $(MAKE) --no-print-directory PYTHON=python$$version VENV=.venv-$$version test-python; \
	  else echo "python$$version is not on PATH: left out"; fi; \
	done

.PHONY: test-browser
test-browser: build system-test $(VENV)/.stamp-test ## Tests in Chromium and Firefox, the demonstration page included, and with Deno and @moq/web-transport
	$(call section,browser tests)
	@$(PY) -m pytest $(PYTEST_ARGS) tests/browser tests/interop/test_deno.py tests/interop/test_moq.py

.PHONY: sanitize
sanitize: system-build system-python system-test ## C tests and Python tests under AddressSanitizer and UndefinedBehaviorSanitizer
	$(call section,C engine tests under sanitizers)
	@$(MAKE) --no-print-directory -C tests/engine SAN=1 check
	$(call section,Python tests under sanitizers)
	@scripts/sanitize.sh $(PYTHON) $(PYTEST_ARGS)

# A file follows a schema that check-jsonschema brings along: nothing is fetched.
follows = found=$$($(BIN)/check-jsonschema --builtin-schema $(1) $(2)) || { echo "$$found"; exit 1; }

.PHONY: lint
lint: system-build system-lint $(VENV)/.stamp-base $(VENV)/.stamp-lint ## Style: ruff, formatting, spelling, C without warnings, shell scripts, workflows
	$(call section,lint)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	@$(BIN)/codespell .
	@$(BIN)/pre-commit validate-config
	@$(call follows,vendor.github-workflows,.github/workflows/*.yml)
	@$(call follows,custom.github-workflows-require-timeout,.github/workflows/*.yml)
	@$(call follows,vendor.github-issue-forms,.github/ISSUE_TEMPLATE/bug.yml .github/ISSUE_TEMPLATE/feature.yml)
	@$(call follows,vendor.github-issue-config,.github/ISSUE_TEMPLATE/config.yml)
	@$(call follows,vendor.readthedocs,.readthedocs.yaml)
	@$(PY) scripts/check_c.py
	@scripts/lint-shell.sh

.PHONY: format
format: $(VENV)/.stamp-lint ## Format the Python and C sources
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .
	@$(BIN)/clang-format -i $(C_FILES)

.PHONY: hooks
hooks: $(VENV)/.stamp-lint ## Let git check each commit with ruff, clang-format and codespell
	@$(BIN)/pre-commit install

.PHONY: types
types: $(VENV)/.stamp-types ## mypy --strict over package, examples and typing tests; pyright over the latter
	$(call section,types)
	@$(BIN)/mypy pywebtransport pytest_pywebtransport.py vendor examples
	@$(BIN)/mypy scripts
	@$(BIN)/mypy tests/typing
	@$(BIN)/basedpyright --pythonpath $(PY) -p tests/typing

.PHONY: fuzz
fuzz: build system-engine system-fuzz $(VENV)/.stamp-fuzz ## Fuzz engine, HTTP/3, messages and texts from outside
	$(call section,fuzz)
	@FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_TARGETS="$(FUZZ_TARGETS)" FUZZ_KEEP=$(FUZZ_KEEP) scripts/fuzz.sh $(PY)

.PHONY: attack
attack: build $(VENV)/.stamp-test ## Hostile peers beside a well-behaved one, a report in build/attack
	$(call section,attack)
	@ATTACK_SECONDS=$(ATTACK_SECONDS) $(PY) -m tests.attack $(ATTACKS)

.PHONY: soak
soak: build $(VENV)/.stamp-test $(VENV)/.stamp-benchmark ## Two hours of streams, sessions, datagrams, churn and idling, a report in build/soak
	$(call section,soak)
	@SOAK_SCALE=$(SOAK_SCALE) nice $(PY) -m tests.soak $(SOAK_PHASES)

# The libraries that the runner compares get virtualenvs of their own.
.PHONY: bench
bench: build $(VENV)/.stamp-benchmark ## Benchmarks against other libraries: about 40 minutes, report in build/benchmark
	$(call section,benchmarks)
	@$(PY) -m tests.benchmark $(BENCH_ARGS)

.PHONY: bench-quick
bench-quick: build $(VENV)/.stamp-benchmark ## The same in five minutes, less exact
	$(call section,quick benchmarks)
	@$(PY) -m tests.benchmark --quick $(BENCH_ARGS)

.PHONY: bench-history
bench-history: $(VENV)/.stamp-benchmark ## Draw the recorded benchmarks (make bench BENCH_ARGS=--record-history) for the documentation
	$(call section,benchmark history)
	@$(PY) -m tests.benchmark.history

.PHONY: bench-lossy
bench-lossy: build system-engine ## Congestion controls over lossy, narrow and shared paths: tables in build/benchmark (ten minutes)
	$(call section,lossy paths)
	@$(PY) -m tests.benchmark.paths --output build/benchmark $(BENCH_ARGS)

.PHONY: bench-guard
bench-guard: build system-guard ## Instruction counts of fixed workloads against the record, 5 % tolerance (valgrind)
	$(call section,regression guard)
	@$(PY) -m tests.benchmark.guard

.PHONY: bench-guard-record
bench-guard-record: build system-guard ## Record the counts of this Python and these libraries
	$(call section,regression guard: record)
	@$(PY) -m tests.benchmark.guard --record

# The reference is made of docstrings, those of the extension too: so it is built first.
.PHONY: docs
docs: build $(VENV)/.stamp-docs ## Build the documentation into docs/_build/html; a warning is an error
	$(call section,documentation)
	@$(BIN)/sphinx-build -W --keep-going -q -b html docs docs/_build/html
	@echo "docs/_build/html/index.html"

# --- release and cleaning ----------------------------------------------------------

.PHONY: dist
dist: $(VENV)/.stamp-base $(VENV)/.stamp-dist | system-build ## Source distribution and wheel, into dist/
	@$(PY) -m build --no-isolation

.PHONY: wheel
wheel: system-build ## Wheels that bring all C libraries along, for each Python from 3.11 that is found, into dist/
	$(call section,wheels)
	@$(PYTHON) scripts/pythons.py | while read -r version python; do \
	  $(MAKE) --no-print-directory PYTHON=$$python VENV=.venv-$$version one-wheel < /dev/null; \
	done

.PHONY: one-wheel
one-wheel: $(VENV)/.stamp-base $(VENV)/.stamp-dist | system-build ## The same for one Python, the one that PYTHON names
	@$(PY) scripts/wheel.py

# The extension that was built for tests, in a wheel: quicker, and of the same compiler.
.PHONY: built-wheel
built-wheel: build $(VENV)/.stamp-dist
	@rm -rf build/wheel
	@$(PY) scripts/wheel.py --output build/wheel \
	  --extension "$$($(PY) -c 'import pywebtransport._quic._core as core; print(core.__file__)')"

.PHONY: clean
clean: ## Remove everything that was built, virtualenvs included
	rm -rf $(VENV) .venv-3.* .venv-newest-web .venv-asan .venv-peers .venv-qmux .venv-node .venv-deno .venv-benchmark .venv-*.lock .make build dist docs/_build docs/reference/_generated *.egg-info \
	  .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
	rm -f pywebtransport/_quic/_core.c pywebtransport/_quic/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@if [ -f tests/engine/Makefile ]; then $(MAKE) --no-print-directory -C tests/engine clean; fi
