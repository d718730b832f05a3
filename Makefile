# make demo     a fresh clone to an opened report: installs, runs the pipeline on the synthetic corpus, prints the table
# make test     everything, with all extras, on as many processes as there are cores (at most eight); of sweeps a sample
# make slow     what takes minutes: every case of the sweeps, a hundred kills of an extraction, the recipe of wavCSE
# make prompts  the same pipeline on real recordings (Debian's telephone prompts), beside the demo
# make bench    benchmarks/RESULTS.md, measured here
# make lint     style
PYTHON ?= python3
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
export PATH := $(BIN):$(PATH)
# The machine's own settings of these libraries have no place in a reproducible run; and every command that a stage or a
# test starts would compile all of this code anew if Python were told to write no bytecode.
export PYTHONDONTWRITEBYTECODE =
export POT_BACKEND_DISABLE_TENSORFLOW = 1
export TOKENIZERS_PARALLELISM = false
# Python compiles what is imported, when it is first imported; that pip compiles all 22,000 files took some two minutes.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint requirements.lock

.PHONY: demo test slow prompts bench lint clean

demo: $(VENV)/.core
	dvc repro
	strata report --summary

test: $(VENV)/.all
	python -m pytest --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

slow: $(VENV)/.all
	python -m pytest --slow -m slow --numprocesses logical --maxprocesses 8 --dist loadfile --no-loadscope-reorder

prompts: $(VENV)/.core
	strata init studies/prompts --recipe prompts
	cd studies/prompts && dvc repro && strata report --summary

bench: $(VENV)/.core
	python -m benchmarks.store
	python -m benchmarks.scale
	python -m benchmarks.memory
	python -m benchmarks.extraction
	python -m benchmarks.small_extraction
	python -m benchmarks.extraction_gpu
	python -m benchmarks.precision
	python -m benchmarks.folds
	python -m benchmarks.heads
	python -m benchmarks.small
	python -m benchmarks.elimination

lint: $(VENV)/.all
	ruff check .
	ruff format --check .

clean:
	rm -rf $(VENV) .strata data features results report dvc.lock

$(VENV)/.core: pyproject.toml requirements.lock
	$(PYTHON) -m venv $(VENV)
	@echo "installing from requirements.lock (some 2 GB, minutes the first time)"
	$(PIP_INSTALL) --editable .
	touch $@

$(VENV)/.all: $(VENV)/.core
	@echo "installing the extras tfhub, opensmile, objects, m4a and dev (some 2 GB more)"
	$(PIP_INSTALL) --editable '.[tfhub,opensmile,objects,m4a,dev]'
	touch $@
