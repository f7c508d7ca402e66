PYTHON ?= python3
VENV := .venv
BIN = $(VENV)/bin

export DO_NOT_TRACK := true
export DVC_NO_ANALYTICS := 1
export HF_HUB_DISABLE_TELEMETRY := 1
export TOKENIZERS_PARALLELISM := false
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export NO_MKDOCS_2_WARNING := 1
# Python compiles each module on its first import; to compile all of them takes most of an installation's time
unexport PYTHONDONTWRITEBYTECODE

# one worker a core, one torch thread a worker: two threads next to another busy process are slower than one; a file stays
# on one worker, so that its fixtures are built once, and the longest files come first (LONGEST in tests/conftest.py)
# nproc counts no more cores than OMP_NUM_THREADS
WORKERS ?= $(shell env -u OMP_NUM_THREADS nproc 2>/dev/null || sysctl -n hw.ncpu 2>/dev/null || echo 2)
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest -n $(WORKERS) --dist loadfile --no-loadscope-reorder

# uv installs several times faster than pip. It does not read pip's settings, so they are passed on; where uv cannot be
# had or fails, pip does the same
setting = $$($(BIN)/pip config get global.$(1) 2>/dev/null || true)
# in a variable, because a comma ends an argument of call
RUNTIME := '.[pipeline]'
DEVELOPMENT := '.[dev,docs]'
SCALE := '.[dev,scale]'
define install
	$(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV) (log: $(VENV)/install.log)"
	@{ $(BIN)/pip install -q -c constraints.txt uv && \
	  export UV_FIND_LINKS="$$(echo $(call setting,find-links) | tr ' ' ',')" UV_INDEX="$(call setting,extra-index-url)" && \
	  export SSL_CERT_FILE="$${SSL_CERT_FILE:-$(call setting,cert)}" && \
	  { [ -n "$$SSL_CERT_FILE" ] || unset SSL_CERT_FILE; } && \
	  UV_DEFAULT_INDEX="$(call setting,index-url)" && \
	  { [ -z "$$UV_DEFAULT_INDEX" ] || export UV_DEFAULT_INDEX; } && \
	  $(BIN)/uv pip install -q --python $(BIN)/python --index-strategy unsafe-best-match -c constraints.txt -e $(1); \
	} >$(VENV)/install.log 2>&1 || $(BIN)/pip install -q --no-compile -c constraints.txt -e $(1)
endef

.DEFAULT_GOAL := help
.PHONY: help try demo install lint audit check test test-pipeline test-docs test-scale docs browser pictures report soak poison year rag bench-bank bench repro clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

try: .venv/runtime ## an answer on a web page: install, adapt one month of the newspaper, serve it
	@$(BIN)/cmt try

demo: .venv/runtime ## the whole stream through Prefect, and a table of its scores
	@$(BIN)/python -m flows.local.demo

install: .venv/development ## the environment with development tools, in the versions of constraints.txt

.venv/runtime: pyproject.toml constraints.txt
	$(call install,$(RUNTIME))
	@touch $@

.venv/development: pyproject.toml constraints.txt
	$(call install,$(DEVELOPMENT))
	@touch $@ .venv/runtime

lint: install ## style, types and the allowed imports
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

audit: install ## the installed packages are compatible and match constraints.txt; needs no network
	$(BIN)/pip check
	$(BIN)/python .ci/audit.py

check: lint ## lint and the fast half of the tests
	$(PYTEST) tests/answering tests/bank tests/common tests/lm tests/modeling tests/stream tests/test_config.py \
		tests/test_errors.py

test: install ## the tests of every module, on the real language model
	$(BIN)/cmt model pull
	$(PYTEST)

test-pipeline: install ## the tests of flows, whole commands and benchmarks, with Prefect, DVC, MLflow, kills and faults
	$(BIN)/cmt model pull
	$(PYTEST) tests/flows tests/integration tests/benchmarks

test-docs: install ## run every command of README, quick start and loop, and compare what it prints
	$(BIN)/cmt model pull
	$(BIN)/pytest tests/docs

test-scale: VENV := .venv-scale
test-scale: .venv-scale/installed ## Ray, a bank on an S3 server of this machine, PostgreSQL and two workers, in an environment of its own
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/scale

.venv-scale/installed: VENV := .venv-scale
.venv-scale/installed: pyproject.toml constraints.txt
	$(call install,$(SCALE))
	@touch $@

docs: install ## the documentation as a site in build/site
	$(BIN)/mkdocs build --strict -d build/site

browser: install ## the web page in a headless Chromium, which has to be installed with its driver
	$(BIN)/pip install -q -c constraints.txt -e '.[dev,browser]'
	$(BIN)/pytest tests/browser

pictures: install ## the pictures of docs/ from the demo of the present version, in the same Chromium
	$(BIN)/pip install -q -c constraints.txt -e '.[dev,browser]'
	$(BIN)/python -m tests.browser.pictures

report: .venv/runtime ## report/index.html from the demo's bank; runs the demo first where there is none
	@test -d data/bank || $(MAKE) demo
	$(BIN)/cmt report

soak: install ## every write, rename, fsync and unlink fails once; chaos compared with a model; damage to every kind of file
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.soak

poison: .venv/runtime ## seeded attacks and honest slices on the real language model: what is stopped, what is held back
	$(BIN)/cmt model pull
	OMP_NUM_THREADS=1 $(BIN)/python benchmarks/poison.py

year: .venv/runtime ## eight months through a pipeline that retrains, compares, promotes and recompresses
	$(BIN)/python -m flows.local.year $(if $(BASE),--base $(BASE))

rag: .venv/runtime ## the prefix of the trained RAG, from the shipped compressor: 20 minutes, 14 GB; in data/trained/rag
	$(BIN)/cmt data pull
	$(BIN)/cmt --set research.aggregator.kind=none --set train.start=data/compressor \
		--set research.train.start_weight=0 --set research.train.answer_fraction=1 \
		--set research.train.paragraphs=8 --set research.train.questions_per_paragraph=2 \
		--set train.questions=720 --set train.output=data/trained/rag train

bench-bank: .venv/runtime ## the bank of a million synthetic rows that the bars are measured on; 6 GB in data/bench
	$(BIN)/python benchmarks/bench.py --bank

bench: .venv/runtime ## the bars: what a round and a search cost with a million rows, and after a thousand rounds
	$(BIN)/python benchmarks/bench.py $(if $(ONLY),--only $(ONLY))

repro: .venv/runtime ## the reproducible pipeline: train (or the shipped compressor), replay, evaluate
	$(BIN)/dvc repro

clean: ## remove stream, bank and run records; .venv, the language model and trained compressors stay
	rm -rf data/stream data/quarantine data/bank data/replay data/state data/try data/year mlruns mlflow.db* .prefect
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build report
