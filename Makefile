# Each target sets up what it needs in .venv, with the python3 on PATH, and runs. An edit in emulator/ takes effect at once,
# one in csrc on the next make.

PYTHON ?= python3
VENV   ?= .venv
PYTEST_ARGS ?= -n 2

# A mistake in csrc stops make. A machine that cannot compile falls back to Numba, and says why.
export EMULATOR_C ?= strict

bin    := $(VENV)/bin
pip    := $(bin)/python -m pip --disable-pip-version-check -q
inputs := pyproject.toml setup.py csrc $(wildcard csrc/*)
built  := build/sanitize

.PHONY: help verify test bench lint sanitize clean
.DELETE_ON_ERROR:

help:
	@echo 'make verify     replay the golden vectors'
	@echo 'make test       run the tests (PYTEST_ARGS="-m exhaustive" for the sweeps)'
	@echo 'make bench      measure the speed'
	@echo 'make lint       ruff and mypy'
	@echo 'make sanitize   run the tests of the C library under address and undefined-behaviour sanitizers'
	@echo 'make clean      remove all that make made'

verify: $(VENV)/.run
	$(bin)/python -m emulator verify

test: $(VENV)/.dev
	$(bin)/pytest $(PYTEST_ARGS)

bench: $(VENV)/.run
	$(bin)/python -m emulator bench
	$(bin)/python -m emulator bench convert

lint: $(VENV)/.dev
	$(bin)/ruff check .
	$(bin)/mypy

# A second, instrumented build beside the first. It is found first because pytest, unlike python -m pytest, does not put the
# source tree on the path. libstdc++ is there because the sanitizer must see it before LLVM throws. --capture=sys leaves the
# report of a crash on the screen.
sanitize: $(VENV)/.dev
	@rm -rf $(built)
	EMULATOR_SANITIZE=1 $(bin)/python setup.py -q build --build-lib $(built) --build-temp $(built)/objects
	@test ! -e $(built)/emulator/_c_build.txt || { cat $(built)/emulator/_c_build.txt; exit 1; }
	@test ! -d golden || ln -s ../../golden $(built)/golden
	@asan=$$($(CC) -print-file-name=libasan.so); test -e "$$asan" || { echo 'make sanitize needs gcc with libasan'; exit 1; }; \
	set -x; LD_PRELOAD="$$asan $$($(CC) -print-file-name=libstdc++.so.6)" ASAN_OPTIONS=detect_leaks=0 \
	    UBSAN_OPTIONS=print_stacktrace=1 PYTHONPATH=$(built) EMULATOR_ENGINE=c \
	    $(bin)/pytest -m 'sanitize and not exhaustive' --capture=sys

clean:
	rm -rf $(VENV) build dist emulator.egg-info emulator/_c.* emulator/_c_build.txt
	rm -rf .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find emulator tests tools -name __pycache__ -prune -exec rm -rf {} +

# Without build isolation, so that a new build after an edit needs no network; hence the two packages from pyproject.toml.
$(VENV)/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "emulator needs Python 3.10 or newer; this $(PYTHON) is " + sys.version)'
	$(PYTHON) -m venv $(VENV)
	$(pip) install 'setuptools>=77' 'cffi>=1.17'
	@touch $@

$(VENV)/.run: $(VENV)/.made $(inputs)
	$(pip) install --no-build-isolation -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.made $(inputs)
	$(pip) install --no-build-isolation -e '.[test,train]'
	@touch $@ $(VENV)/.run
