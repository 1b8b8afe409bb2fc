# Each command does its own set-up: a virtual environment in .venv with pinned versions.
#   make demo    the demonstration
#   make test    lint, types, tests
#   make slow    the tests that take minutes
#   make conformance   every operator against its run; takes an hour or so
#   make mutants [FILES=...] [SAMPLE=N]   whether the tests notice small mistakes in the
#                solver, the lattices, aliases and liveness; takes hours in full
#   make bench   ratios against torch's own tools and against other engines, which are installed
#                for it, and plans (INSTANCES=folder of CSV files); takes a quarter of an hour
#
# On Linux PyPI's torch is the CUDA build, several gigabytes.  The CPU build:
#   make test PIP_OPTIONS="--extra-index-url https://download.pytorch.org/whl/cpu"

VENV ?= .venv
PYTHON ?= python3
PIP_OPTIONS ?=
PARALLEL ?= -n auto --maxprocesses 4 --dist worksteal

RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
BENCH_READY := $(VENV)/.bench-ready

.PHONY: help demo test slow lint types bench conformance mutants clean
help:
	@sed -n 's/^#   //p' Makefile

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.11"'
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet $(PIP_OPTIONS) "$$(grep '^torch==' constraints.txt)"
	$(RUN) -m pip install --quiet $(PIP_OPTIONS) --constraint constraints.txt --editable '.[torch,dev]'
	touch $(READY)

$(BENCH_READY): $(READY)
	$(RUN) -m pip install --quiet $(PIP_OPTIONS) --constraint constraints.txt --editable '.[torch,dev,bench]'
	touch $(BENCH_READY)

demo: $(READY)
	$(RUN) examples/demo.py

test: $(READY) lint types
	$(RUN) -m pytest $(PARALLEL)

slow: $(READY)
	$(RUN) -m pytest $(PARALLEL) -m slow

lint: $(READY)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .

types: $(READY)
	$(RUN) -m mypy

bench: $(BENCH_READY)
	$(RUN) -m bench.bench
	$(RUN) -m bench.peaks
	$(RUN) -m bench.race
	$(RUN) -m bench.plan $(INSTANCES)
	$(RUN) -m bench.tight

conformance: $(READY)
	$(RUN) -m tests.conformance

mutants: $(READY)
	$(RUN) -m tests.mutants $(FILES) $(if $(SAMPLE),--sample $(SAMPLE))

clean:
	rm -rf $(VENV)
