# make setup | demo | serve | test | lint | types | bench | clean; `make help` says more.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# Which ONNX Runtime to install: cpu or gpu.
RUNTIME ?= cpu
# What beside serving is wanted: export, or train (which brings export too).
EXTRAS ?= export

BUNDLE := bundles/compact
GALLERY := .cache/gallery
IMAGES ?= $(GALLERY)
DEMO_INDEX := file:.cache/demo-index
FLICKR8K ?= $(or $(SCENESEEK_FLICKR8K),../shared/flickr8k)
HOST ?= 127.0.0.1
PORT ?= 8080

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 10

.PHONY: setup
setup: $(VENV)/.installed  ## install sceneseek with what export needs into .venv

# torch first and pinned: an unpinned one brings several gigabytes of CUDA.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt torch==2.13.0
	$(PIP) install --constraint constraints.txt --editable '.[$(RUNTIME),$(EXTRAS)]'
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) install --constraint constraints.txt --editable '.[$(RUNTIME),train,dev]'
	@touch $@

$(BUNDLE)/manifest.json: $(VENV)/.installed $(wildcard export/*.py export/weights/compact/*/*) sceneseek/packs.py
	$(BIN)/sceneseek export --pack compact --out $(BUNDLE)

.PHONY: demo
demo: $(BUNDLE)/manifest.json  ## index the demo gallery (or IMAGES=DIR) and answer three queries
ifeq ($(IMAGES),$(GALLERY))
	@scripts/demo-gallery $(GALLERY)
endif
	$(BIN)/sceneseek index "$(IMAGES)" --bundle $(BUNDLE) --index $(DEMO_INDEX)
	@for query in "a cup of coffee" "a red flower" "an animal that lives in the sea"; do \
	    echo; echo "$$query"; \
	    $(BIN)/sceneseek search "$$query" --bundle $(BUNDLE) --index $(DEMO_INDEX) || exit 1; \
	done
	@echo; echo "Search on the page: make serve, then open http://$(HOST):$(PORT)/"

.PHONY: serve
serve: $(BUNDLE)/manifest.json  ## serve the demo's index over HTTP (PORT=8080)
	$(BIN)/sceneseek serve --bundle $(BUNDLE) --index $(DEMO_INDEX) --host $(HOST) --port $(PORT)

.PHONY: test
test: $(VENV)/.dev  ## run every test
	$(BIN)/python -m pytest

.PHONY: lint
lint: $(VENV)/.dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: types
types: $(VENV)/.dev  ## mypy alone
	$(BIN)/mypy

.PHONY: bench
bench: $(BUNDLE)/manifest.json  ## measure speed beside the floors (IMAGES=DIR, BENCH=--quick)
	$(BIN)/sceneseek bench --bundle $(BUNDLE) --images "$(if $(filter $(GALLERY),$(IMAGES)),$(FLICKR8K)/images,$(IMAGES))" \
	    $(if $(wildcard $(FLICKR8K)/captions.tsv),--queries $(FLICKR8K)/captions.tsv) $(BENCH)

.PHONY: clean
clean:  ## remove what was built: .venv, caches, bundles, the demo's index
	rm -rf $(VENV) .cache bundles build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
