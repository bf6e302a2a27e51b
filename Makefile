# `make probe` answers the first question, `make test` checks the house; both install what they need into .venv,
# and neither touches the network once that is done.
PYTHON ?= $(shell for name in python3.11 python3 python; do command -v $$name && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed
INSTALLED_FFCV := .venv/.installed-ffcv
OUT ?= out/batchsize
FFCV_LIBRARIES := g++ pkg-config libopencv-dev libturbojpeg0-dev
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help install probe test test-all twins lint docs bench clean

help:
	@echo "make probe     train MLPs at several batch sizes, print the verdicts, write a report to $(OUT)"
	@echo "make test      the tests, docstring examples, notebooks and docs (minutes)"
	@echo "make test-all  the same and the slow tests; with MLPTHEORY_DATA set, those on real CIFAR too"
	@echo "make ffcv      FFCV, for .beton files, and the system libraries that it compiles against (a minute or two)"
	@echo "make lint      ruff check and ruff format --check"
	@echo "make twins     how far every measure is from its brute-force twin, in docs/twins.md"
	@echo "make docs      the documentation, in docs/_build/html"
	@echo "make bench     the benchmarks"
	@echo "make clean     remove .venv, caches and built docs; out/ stays"

install: $(INSTALLED)

# torch comes first and pinned: left to its range, it would bring gigabytes of CUDA libraries where a newer one has them.
$(INSTALLED): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "no Python found: install Python 3.11 or newer, or run make PYTHON=/path/to/python" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "$(PYTHON) is Python %s: mlptheory needs 3.11 or newer; run make PYTHON=/path/to/python3.11" % sys.version.split()[0])'
	test -x $(BIN)/pip || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet -c constraints.txt setuptools torch
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e ".[test,docs]"
	@touch $@

ffcv: $(INSTALLED_FFCV)

# It has no wheels, and compiles against OpenCV and libjpeg-turbo.
$(INSTALLED_FFCV): $(INSTALLED)
	@if pkg-config --exists opencv4 libturbojpeg 2>/dev/null && command -v c++ >/dev/null; then exit 0; fi; \
	if ! command -v apt-get >/dev/null; then root=no; \
	elif [ "$$(id -u)" = 0 ]; then root=; \
	elif sudo -n true 2>/dev/null; then root="sudo -n"; \
	else root=no; fi; \
	if [ "$$root" = no ]; then \
	  echo "make ffcv: install a C++ compiler, pkg-config, OpenCV and libjpeg-turbo with their headers ($(FFCV_LIBRARIES)), then type make ffcv again" >&2; exit 1; \
	fi; \
	$$root apt-get update -qq && DEBIAN_FRONTEND=noninteractive $$root apt-get install -qq -y --no-install-recommends $(FFCV_LIBRARIES) >/dev/null
	$(BIN)/python -m pip install --quiet -c constraints.txt --no-build-isolation -e ".[test,docs,ffcv]"
	$(BIN)/python -W ignore -c "import ffcv"
	@touch $@

probe: $(INSTALLED)
	$(BIN)/mlptheory probe batchsize --out $(OUT)

# One thread per worker: two workers with two threads each would only wait for each other.
test: export OMP_NUM_THREADS ?= 1
test: $(INSTALLED)
	$(BIN)/python -m pytest --quiet -n 2 -m "not slow" --nbmake --nbmake-timeout=300

test-all: export OMP_NUM_THREADS ?= 1
test-all: $(INSTALLED)
	$(BIN)/python -m pytest --quiet -n 2 --nbmake --nbmake-timeout=300 --durations=20

# Not in parallel: the table is of one process.
twins: $(INSTALLED)
	$(BIN)/python -m pytest --quiet -p no:xdist -m "not slow" tests/measures --twins docs/twins.md

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

docs: $(INSTALLED)
	$(BIN)/python -m sphinx -W --keep-going --quiet -b html docs docs/_build/html
	@echo "docs: docs/_build/html/index.html"

bench: $(INSTALLED)
	@set -e; for script in benchmarks/*.py; do echo "$$script"; $(BIN)/python "$$script"; done

clean:
	rm -rf .venv build dist docs/_build docs/jupyter_execute .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
