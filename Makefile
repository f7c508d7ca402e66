PYTHON ?= python3
BIN := .venv/bin

export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.PHONY: help install lint test browser demo report kill repro clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed ## the environment in .venv, exactly as constraints.txt has it

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	@echo "installing into .venv: some minutes the first time"
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	@touch $@

lint: install ## style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: install ## the tests, on the real language model
	$(BIN)/cmt model pull
	$(BIN)/pytest

browser: install ## the web page in a headless Chromium, which has to be there with its driver
	$(BIN)/pip install -q -c constraints.txt -e '.[dev,browser]'
	$(BIN)/pytest tests/browser

demo: install ## the whole stream through Prefect, and a table of its scores
	$(BIN)/python -m flows.demo

report: install ## report/index.html from the demo's bank; the demo comes first where there is none
	@test -d data/bank || $(MAKE) demo
	$(BIN)/cmt report

kill: install ## SIGKILL an update at random moments; every time it must end as the undisturbed one
	$(BIN)/python tests/integration/kill.py

repro: install ## the reproducible pipeline: train (or the shipped compressor), replay, evaluate
	$(BIN)/dvc repro

clean: ## away with stream, bank and run records; .venv, the language model and trained compressors stay
	rm -rf data/stream data/quarantine data/bank data/replay data/state mlruns mlflow.db* .prefect
	rm -rf .pytest_cache .mypy_cache .ruff_cache build report
