# The two commands of the README, and what developers and CI call.

VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin

.PHONY: demo docs test test-fast faults fuzz lint install wheel check-wheel versions

install: $(VENV)/.installed

# torch first: 2.13.0 satisfies the range in pyproject.toml, so nothing larger is fetched after it.
$(VENV)/.torch:
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet torch==2.13.0
	touch $@

$(VENV)/.installed: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --editable ".[dev]"
	touch $@

# What the demo needs is a small part of what the tests do.
$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install --quiet --editable ".[trl,plots]"
	touch $@

demo: $(VENV)/.demo
	$(BIN)/entrocraft demo --output runs/demo

# Slow tests of one file stay in one process; verl's, each of which starts a cluster, run one after another.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow -n 2 --dist loadfile --ignore tests/verl
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow tests/verl

test-fast: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" -n 2

# Real trainings that are killed, starved, damaged and misled, one at a time: an hour on two cores.
SEED ?= 0
MOMENTS ?= 50
faults: install
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m faults --seed $(SEED) --random-moments $(MOMENTS) $(FAULTS)

# Goes on where it was stopped; what is found is written to tests/fuzz/corpus.
fuzz: install
	OMP_NUM_THREADS=1 PYTHONPATH=tests $(BIN)/python -m fuzz --output results/trust/fuzz.json

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The site, in site/. Any warning ends it: a link to nowhere, a page that is in no menu, a docstring that cannot be read.
# Then how many blocks of code the docs have, each of which a test runs.
docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q tests/integration/test_docs_blocks.py -k every_block

# Source distribution and wheel, in dist/.
wheel: install
	rm -rf dist
	$(BIN)/python -m hatchling build --directory dist

# The wheel where there is no checkout, with the newest releases that its bounds allow.
check-wheel: wheel
	$(BIN)/python scripts/check_install.py dist/*.whl

# The same with the oldest, and with both the tests that compare the engine with TRL's own trainers: half an hour.
versions: wheel
	rm -f results/install/versions.jsonl
	$(BIN)/python scripts/check_install.py dist/*.whl --oldest --tests --output results/install/versions.jsonl
	$(BIN)/python scripts/check_install.py dist/*.whl --tests --output results/install/versions.jsonl
