# make setup | demo | serve | test | lint | types | bench | clean, and for the stack in containers up | reindex | down;
# `make help` lists all targets.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check --quiet
# Which ONNX Runtime to install: cpu or gpu.
RUNTIME ?= cpu
# What to install besides serving: export (no torch), hub (packs from the model hub), or train (includes both).
EXTRAS ?= export
comma := ,
WITH_TORCH := $(filter hub train,$(subst $(comma), ,$(EXTRAS)))

BUNDLE := bundles/compact
GALLERY := .cache/gallery
IMAGES ?= $(GALLERY)
DEMO_INDEX := file:.cache/demo-index
FLICKR8K ?= $(or $(SCENESEEK_FLICKR8K),../shared/flickr8k)
HOST ?= 127.0.0.1
# Test files run in parallel. One more than the cores of most CI machines, since tests also wait for processes, servers
# and a browser.
TEST_PROCESSES ?= 3
PORT ?= 8080

.PHONY: help
help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*##/\t/' | expand -t 10

.PHONY: setup
setup: $(VENV)/.installed  ## install sceneseek with what export needs into .venv

# The pip that comes with Python 3.11 takes twice as long, so it is updated first, together with setuptools, which saves
# a separate build environment. The script installs torch before anything that depends on it: pip itself would install
# the CUDA build.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) install --constraint constraints.txt --no-compile --upgrade pip setuptools
	$(if $(WITH_TORCH),scripts/install-torch $(RUNTIME) $(PIP))
	$(PIP) install --constraint constraints.txt --no-compile --no-build-isolation --editable \
	    '.[$(RUNTIME),serve,index,$(EXTRAS)]'
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	scripts/install-torch $(RUNTIME) $(PIP)
	$(PIP) install --constraint constraints.txt --no-build-isolation --editable '.[$(RUNTIME),train,dev]'
	@touch $@

$(BUNDLE)/manifest.json: $(VENV)/.installed $(wildcard export/*/*.py export/*/*/*.py export/*/weights/compact/*/* export/sceneseek_export/packs/*)
	$(BIN)/sceneseek export --pack compact --out $(BUNDLE)

$(GALLERY)/captions.tsv:
	scripts/demo-gallery $(GALLERY)

# The pictures are downloaded while the packages are installed.
.PHONY: demo
demo:  ## index the demo gallery (or IMAGES=DIR) and answer three queries
	@$(MAKE) --no-print-directory --jobs=2 \
	    $(if $(filter $(GALLERY),$(IMAGES)),$(GALLERY)/captions.tsv) $(BUNDLE)/manifest.json
	$(BIN)/sceneseek index "$(IMAGES)" --bundle $(BUNDLE) --index $(DEMO_INDEX) \
	    $(if $(filter $(GALLERY),$(IMAGES)),--metadata $(GALLERY)/captions.tsv)
	@echo
	@printf '%s\n' "a cup of coffee" "a red flower" "an animal that lives in the sea" \
	    | $(BIN)/sceneseek search --queries - --bundle $(BUNDLE) --index $(DEMO_INDEX)
	@echo; echo "Search on the page: make serve, then open http://$(HOST):$(PORT)/"

# Shows paths, since the images are the user's own.
.PHONY: serve
serve: $(BUNDLE)/manifest.json  ## serve the demo's index over HTTP (PORT=8080)
	$(BIN)/sceneseek serve --bundle $(BUNDLE) --index $(DEMO_INDEX) --host $(HOST) --port $(PORT) --show-paths

# Writes bytecode: without it, each process that tests start would compile modules for a second.
.PHONY: test
test: $(VENV)/.dev  ## run every test
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder

# Line coverage of the test processes; servers and commands started by tests are not included.
.PHONY: coverage
coverage: $(VENV)/.dev  ## run every test and print their coverage
	$(BIN)/python -m pytest --numprocesses $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --cov --cov-report=term

.PHONY: test-lowest
test-lowest:  ## unit tests with the lowest versions of the dependencies that pyproject.toml allows
	scripts/unit-tests --lowest $(PYTHON)

.PHONY: test-python
test-python:  ## unit tests with another Python (PYTHON=python3.13), and their coverage
	scripts/unit-tests $(PYTHON)

.PHONY: try-wheel
try-wheel:  ## build the wheel, install it in empty environments, and run a search with it
	PYTHON=$(PYTHON) scripts/try-wheel

.PHONY: audit
audit: .cache/audit/bin/pip-audit  ## check the tested versions for published vulnerabilities; queries a database on the net
	.cache/audit/bin/pip-audit --requirement constraints.txt --no-deps --disable-pip

.cache/audit/bin/pip-audit:
	$(PYTHON) -m venv .cache/audit
	.cache/audit/bin/pip --disable-pip-version-check --quiet install pip-audit

.PHONY: lint
lint: $(VENV)/.dev  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: types
types: $(VENV)/.dev  ## mypy alone
	$(BIN)/mypy

.PHONY: bench
bench: $(BUNDLE)/manifest.json  ## run the benchmarks (IMAGES=DIR, BENCH=--quick)
	$(BIN)/python -m benchmarks --bundle $(BUNDLE) --images "$(if $(filter $(GALLERY),$(IMAGES)),$(FLICKR8K)/images,$(IMAGES))" \
	    $(if $(wildcard $(FLICKR8K)/captions.tsv),--queries $(FLICKR8K)/captions.tsv) $(BENCH)

# The stack in containers: docker-compose.yml, docs/how-to/operations.md.
# cpu or gpu.
PROFILE ?= cpu
# 1: three Qdrant nodes instead of one.
CLUSTER ?=
# Additional options of `sceneseek index` for reindex, such as OPTIONS=--json.
OPTIONS ?=
DOCKER ?= docker
# Timeout of `up` in seconds.
WAIT ?= 180
# Without -f, COMPOSE_FILE in .env applies. Pictures: IMAGES if given, otherwise the setting in .env.
COMPOSE := $(if $(filter file,$(origin IMAGES)),,SCENESEEK_IMAGES="$$(realpath -- "$(IMAGES)")") $(DOCKER) compose \
    $(if $(CLUSTER),-f docker-compose.yml -f docker-compose.cluster.yml)
STORE := $(if $(CLUSTER),balancer,qdrant)

.PHONY: docker
docker:
	@case "$(PROFILE)" in cpu|gpu) ;; *) echo "PROFILE is cpu or gpu, not $(PROFILE)" >&2; exit 2;; esac
	@$(DOCKER) compose version >/dev/null 2>&1 || { \
	    echo "$(DOCKER) compose does not run: install Docker Engine with its Compose plugin (2.24 or newer)," >&2; \
	    echo "or run without containers: make setup, then sceneseek (README.md)" >&2; exit 1; }

# Settings of the stack, with generated keys for Qdrant.
.env:
	@umask 077 && key() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; } && \
	    sed -e "s/^SCENESEEK_QDRANT_API_KEY=''$$/SCENESEEK_QDRANT_API_KEY='$$(key)'/" \
	        -e "s/^SCENESEEK_QDRANT_READ_ONLY_API_KEY=''$$/SCENESEEK_QDRANT_READ_ONLY_API_KEY='$$(key)'/" \
	        .env.example >$@
	@echo "wrote .env: review it, SCENESEEK_IMAGES above all"

# `export` has no torch and writes the bundle of `compact`, `export-hub` those of all other packs.
.PHONY: images
images:
	@$(if $(filter file,$(origin IMAGES)),:,[ -d "$(IMAGES)" ] || { \
	    echo "there is no folder '$(IMAGES)': set IMAGES to the folder of your pictures" >&2; exit 2; })

.PHONY: stack-bundle
stack-bundle: images docker .env
	@missing=$$($(COMPOSE) run --rm -T --no-deps --entrypoint sh export \
	    -c '[ -f "$$SCENESEEK_BUNDLE/manifest.json" ] || basename "$$SCENESEEK_BUNDLE"') || exit 1; \
	case $$missing in \
	    "") ;; \
	    compact) $(COMPOSE) run --rm export;; \
	    *) $(COMPOSE) run --rm export-hub;; \
	esac

.PHONY: up
up: stack-bundle  ## start the service in containers (PROFILE=cpu|gpu, CLUSTER=1, IMAGES=DIR)
	@$(COMPOSE) --profile $(PROFILE) up --detach --wait --wait-timeout $(WAIT) || { \
	    echo "the service is not running; its log: $(DOCKER) compose logs server-$(PROFILE)" >&2; exit 1; }
	@$(COMPOSE) --profile $(PROFILE) exec -T server-$(PROFILE) python - <deploy/readiness.py

.PHONY: reindex
reindex: stack-bundle  ## index the pictures in a container (IMAGES=DIR, OPTIONS=..., PROFILE, CLUSTER)
	$(COMPOSE) up --detach --wait $(STORE)
	$(COMPOSE) run --rm index-$(PROFILE) index /images $(OPTIONS)

.PHONY: down
down: docker .env  ## stop the stack; the index is kept
	$(COMPOSE) --profile cpu --profile gpu --profile job --profile setup --profile monitoring down

.PHONY: compose-check
compose-check: $(VENV)/.dev  ## validate the stack's files against the Compose schema, and with docker compose if installed
	$(BIN)/check-jsonschema --builtin-schema vendor.compose-spec docker-compose*.yml deploy/publish-qdrant.yml
	$(BIN)/python -m pytest tests/unit/test_stack_*.py
	@if $(DOCKER) compose version >/dev/null 2>&1; then \
	    export SCENESEEK_QDRANT_API_KEY=check SCENESEEK_QDRANT_READ_ONLY_API_KEY=check; all=$$(printf ' --profile %s' cpu gpu job setup monitoring); \
	    $(DOCKER) compose -f docker-compose.yml $$all config --quiet && \
	    $(DOCKER) compose -f docker-compose.yml -f docker-compose.cluster.yml $$all config --quiet && \
	    $(DOCKER) compose -f docker-compose.yml -f deploy/publish-qdrant.yml $$all config --quiet; \
	else echo "docker compose is not installed: it did not validate the files"; fi

.PHONY: try-image
try-image:  ## test the images' steps and commands without a container engine (IMAGES=DIR); takes minutes
	scripts/try-image "$(IMAGES)"

.PHONY: clean
clean:  ## remove everything that was built: .venv, caches, bundles, the demo's index
	rm -rf $(VENV) .cache bundles build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
