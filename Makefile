# `make help` lists the targets. PYTHON=/path/to/python3 chooses the interpreter a new .venv is made with.
PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
CONFIG := configs/seg/ean_se_voc.py
DEMO := work_dirs/demo

# The versions in constraints.txt need Python 3.11; on 3.10 pip picks the newest that still support it.
# CONSTRAINTS=FILE installs other versions, CONSTRAINTS= the newest.
CONSTRAINTS ?= $(shell $(RUN) -c 'import sys; print("constraints.txt" if sys.version_info >= (3, 11) else "")')
PINS = $(addprefix -c ,$(CONSTRAINTS))

.DEFAULT_GOAL := help
.PHONY: help demo test suite lint docs knocks clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile

demo: $(VENV)/.installed  ## train and test a small attention network on generated data
	$(RUN) tools/train.py $(CONFIG) --toy --work-dir $(DEMO)
	$(RUN) tools/test.py $(CONFIG) $(DEMO)/best.pth --toy --work-dir $(DEMO) --show-dir $(DEMO)/show

test: lint suite  ## every check: ruff, mypy and the whole test suite

# One thread a process and a process a core: small networks gain nothing from threads that wait for each other.
suite: $(VENV)/.installed-test  ## the test suite alone
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n auto --dist loadfile

lint: $(VENV)/.installed-test  ## ruff and mypy alone
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

docs: $(VENV)/.installed-test  ## the documents and the reference as pages, build/site/index.html; warnings are errors
	OMP_NUM_THREADS=1 $(RUN) -m sphinx --fail-on-warning --keep-going --quiet --builder html --conf-dir docs . build/site

knocks: $(VENV)/.installed-test  ## try to break the project for 15 minutes (docs/reliability.md); ends with a table
	$(RUN) tests/knocks/campaign.py --minutes 15 --seed 1

clean:  ## remove what builds, checks and the demo wrote; .venv and other runs stay
	rm -rf build dist docs/reference *.egg-info .pytest_cache .ruff_cache .mypy_cache $(DEMO)

# The stamps keep a second call from installing again; a change of either file they name does it anew.
$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(RUN) -m pip install --disable-pip-version-check $(PINS) -e .
	@touch $@

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(VENV)/bin/pip
	$(RUN) -m pip install --disable-pip-version-check $(PINS) -e '.[test]'
	@touch $(VENV)/.installed $@

$(VENV)/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null || \
		{ echo 'EAN needs Python 3.10 or newer: make PYTHON=/path/to/python3 ...' >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
