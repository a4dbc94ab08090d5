# make test   sets up .venv and runs lint, types and tests
# make demo   sets up .venv and refines the hippocampi of the MNI152 brain
# make lint   checks style and types only
# make clean  removes .venv, .venv-hosts, caches and outputs
#
# PYTHON names the interpreter .venv is made with (3.11; any from 3.10 on should do). Pass options to pytest with
# PYTEST_ARGS="-k geometry"; WORKERS=0 runs the tests one after another in one process.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
STAMP := .venv/.ready
PYTEST_ARGS ?=
WORKERS ?= 2

# One thread a process: torch and BLAS threads that compete for few cores run many times slower.
export OMP_NUM_THREADS ?= 1

.PHONY: test demo lint setup clean browser

setup: $(STAMP)

$(STAMP): requirements.txt requirements-cohort.txt requirements-dicom.txt requirements-dev.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tests of the report's page drive a Chromium: where it is missing and can be had, get it; else they are skipped.
browser:
	@if [ "$$(id -u)" = 0 ] && [ -f /etc/debian_version ] && ! command -v chromedriver >/dev/null; then \
		(apt-get update -qq && apt-get install -qq -y --no-install-recommends chromium chromium-driver) >/dev/null \
		|| echo "no Chromium: the tests of the report's page are skipped"; fi

test: lint browser
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

demo: $(STAMP)
	$(BIN)/python -m scripts demo

clean:
	rm -rf .venv .venv-hosts .pytest_cache .mypy_cache .ruff_cache .hypothesis output cache runs eval
