# Every command a developer types. Bare `make` lists them.

PYTHON := .venv/bin/python
SAM := .venv-sam/bin/sam
CANDIDATES := python3.13 python3.12 python3.11 python3 python
IS_NEW_ENOUGH := import sys; sys.exit(sys.version_info < (3, 11))

# What the function runs on. template.yaml says the same; a test compares them.
LAMBDA_PYTHON ?= 3.13
LAMBDA_ARCHITECTURE ?= arm64
WHEEL_MACHINE = $(if $(filter x86_64,$(LAMBDA_ARCHITECTURE)),x86_64,aarch64)
DEPENDENCIES = .cache/lambda/$(LAMBDA_PYTHON)-$(LAMBDA_ARCHITECTURE)

STAGE ?= dev
export SAM_CLI_TELEMETRY := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run test check fmt bench bench-search explore fuzz mutants engines import export sweep recount build deploy lock clean venv install-local install-dev install-sam build-HttpFunction build-IndexerFunction
.DELETE_ON_ERROR:

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z][a-z-]*:.*## / {printf "make %-12s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

run: install-local ## serve on http://127.0.0.1:8000 with a database in memory; SEARCH=1 with OpenSearch
	@SEARCH="$(SEARCH)" exec $(PYTHON) -m service run

test: install-dev install-clients ## run every test this machine can run; ARGS="-k merge" picks some
	@$(PYTHON) -m pytest -n auto --dist loadscope --no-loadscope-reorder tests $(ARGS)

check: install-dev install-sam install-sdk ## format, lint, types, template, build: all that CI asks beside the tests
	$(PYTHON) -m pip check
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m ruff check .
	$(PYTHON) -m mypy --strict service engines tests bench
	$(PYTHON) tools/docs_assets.py --check
	cd sdk && npm run --silent types && npm run --silent build -- --check
	$(SAM) validate --lint
	$(SAM) build --parameter-overrides Architecture=$(LAMBDA_ARCHITECTURE)

fmt: install-dev ## format, and repair what the linter can repair
	$(PYTHON) -m ruff format .
	$(PYTHON) -m ruff check --fix .

bench: install-dev ## measure processor time and capacity units
	@$(PYTHON) -m bench $(ARGS)

bench-search: install-dev ## measure indexing and search on both engines; ARGS="--events 100000 --check"
	@$(PYTHON) -m bench.search $(ARGS)

explore: install-dev ## try every interleaving of ingest, merge and erasure
	@$(PYTHON) -m tests.explorer $(ARGS)

.PHONY: storm soak
storm: install-dev ## retries, cut wires, merges, orders and erasures at once; ARGS="--seed 7 --requests 20000"
	@$(PYTHON) -m tests.storm $(ARGS)

soak: install-dev ## ten minutes at a steady rate: exact totals, level memory; ARGS="--minutes 5 --rate 40"
	@$(PYTHON) -m tests.soak $(ARGS)

mutants: install-dev ## change each condition of what writes; a test must notice
	@$(PYTHON) -m tests.mutants $(ARGS)

fuzz: install-dev ## try made-up and bad input for some ten minutes; FUZZ_FACTOR=100 for longer
	@FUZZ_FACTOR=$${FUZZ_FACTOR:-10} $(PYTHON) -m pytest -q tests/fuzz $(ARGS)

engines: venv ## start DynamoDB Local and OpenSearch, without Docker
	@exec $(PYTHON) -m engines run $(ARGS)

import: install-local ## send history; ARGS="orders.csv --mapping docs/examples/online-retail.toml"
	@$(PYTHON) -m service import $(ARGS)

export: install-local ## write all that is counted as NDJSON; ARGS="--out footfall.ndjson"
	@$(PYTHON) -m service export $(ARGS)

sweep: install-local ## finish merges and erasures whose process died
	@$(PYTHON) -m service sweep $(ARGS)

.PHONY: sdk install-sdk
sdk: install-sdk ## build the browser SDK from sdk/src, after a change there; needs Node.js
	@cd sdk && npm run --silent types && npm run --silent build

recount: install-local ## rebuild days from raw events and compare; ARGS="--all" or a user id
	@$(PYTHON) -m service recount $(ARGS)

build: install-sam ## build the function for Lambda into .aws-sam/build
	$(SAM) build --parameter-overrides Architecture=$(LAMBDA_ARCHITECTURE)

# The first deployment of a stage needs FOOTFALL_WRITE_KEYS and FOOTFALL_SECRET_KEY_HASHES in the environment;
# CloudFormation remembers them. The rest comes from samconfig.toml, read here because overrides
# on sam's command line replace those of the file instead of adding to them.
deploy: build ## deploy to AWS; STAGE=dev or STAGE=prod
	@overrides=$$($(PYTHON) -c 'import sys, tomllib; \
	  stage = tomllib.load(open("samconfig.toml", "rb")).get(sys.argv[1]); \
	  print(stage["deploy"]["parameters"]["parameter_overrides"] if stage else sys.exit("samconfig.toml has no stage " + sys.argv[1]))' \
	  $(STAGE)) && \
	exec $(SAM) deploy --config-env $(STAGE) --parameter-overrides $$overrides \
	  Architecture=$(LAMBDA_ARCHITECTURE) \
	  $${FOOTFALL_WRITE_KEYS:+"WriteKeys=$$FOOTFALL_WRITE_KEYS"} \
	  $${FOOTFALL_SECRET_KEY_HASHES:+"SecretKeyHashes=$$FOOTFALL_SECRET_KEY_HASHES"} \
	  $${FOOTFALL_IDENTITY_SECRET:+"IdentitySecret=$$FOOTFALL_IDENTITY_SECRET"} \
	  $${FOOTFALL_OPENSEARCH_URL:+"OpenSearchUrl=$$FOOTFALL_OPENSEARCH_URL"}

LOCK = $(PYTHON) -m uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-header --no-annotate --no-emit-index-url --no-emit-find-links $(ARGS)

lock: install-dev ## write requirements*.txt from requirements*.in; ARGS=--upgrade takes the newest
	$(LOCK) requirements.in -o requirements.txt
	$(LOCK) -c requirements.txt requirements-local.in -o requirements-local.txt
	$(LOCK) -c requirements-local.txt requirements-dev.in -o requirements-dev.txt
	$(LOCK) requirements-sam.in -o requirements-sam.txt

clean: ## remove what was built and cached; .venv stays
	rm -rf .aws-sam .cache .mypy_cache .pytest_cache .ruff_cache .hypothesis sdk/dist sdk/node_modules
	find service engines tests bench -name __pycache__ -type d -exec rm -rf {} +

# A version manager's shim can be on PATH and not run, so each candidate has to prove itself.
venv:
	@$(PYTHON) -c '$(IS_NEW_ENOUGH)' 2>/dev/null && exit 0; \
	bare=; \
	for candidate in $(CANDIDATES); do \
	  $$candidate -c '$(IS_NEW_ENOUGH)' >/dev/null 2>&1 || continue; \
	  if $$candidate -c 'import ensurepip, venv' >/dev/null 2>&1; then \
	    exec $$candidate -m venv --clear .venv; \
	  fi; \
	  bare=$${bare:-$$candidate}; \
	done; \
	if [ -n "$$bare" ]; then \
	  echo "Footfall cannot make a virtual environment: $$bare lacks the venv module. On Debian or Ubuntu: apt install python3-venv. Then run make again." >&2; \
	else \
	  echo "Footfall needs Python 3.11 or newer, and none of '$(CANDIDATES)' is that on this machine. Install one from python.org or your package manager, then run make again." >&2; \
	fi; \
	exit 1

# The stamp is a copy of the lock itself, so it is out of date exactly when the content differs.
# --no-deps because a lock is complete, and pip otherwise trips over extras in it.
INSTALL = -m pip install --quiet --no-deps --require-hashes -r

install-local: venv
	@cmp -s requirements-local.txt .venv/requirements-local.txt || { \
	  echo "setting up (once, about 20 s)…"; \
	  $(PYTHON) $(INSTALL) requirements-local.txt && cp requirements-local.txt .venv/; }

install-dev: venv
	@cmp -s requirements-dev.txt .venv/requirements-dev.txt || { \
	  echo "setting up for development (once, about 30 s)…"; \
	  $(PYTHON) $(INSTALL) requirements-dev.txt && cp requirements-local.txt requirements-dev.txt .venv/; }

install-sam: venv
	@cmp -s requirements-sam.txt .venv-sam/requirements-sam.txt || { \
	  echo "setting up AWS SAM (once, about a minute, 340 MB)…"; \
	  $(PYTHON) -m venv --clear .venv-sam && \
	  .venv-sam/bin/python $(INSTALL) requirements-sam.txt && cp requirements-sam.txt .venv-sam/; }

# What it builds is committed, so that only those who change the SDK need Node.js, and those who check.
install-sdk:
	@command -v node >/dev/null && command -v npm >/dev/null || { \
	  echo "The browser SDK is built with Node.js 18 or newer and npm, and one of them is missing. On Debian or Ubuntu: apt install nodejs npm. Running the service needs neither." >&2; exit 1; }
	@cmp -s sdk/package-lock.json sdk/node_modules/.lock || { \
	  echo "setting up the SDK's build (once, about 5 s)…"; \
	  (cd sdk && npm ci --silent --ignore-scripts --no-audit --no-fund) && cp sdk/package-lock.json sdk/node_modules/.lock; }

# Other people's clients, which tests/clients drives. Without Node those tests are skipped, but for CI, where they fail.
.PHONY: install-clients
CLIENTS := .cache/clients
install-clients:
	@command -v node >/dev/null && command -v npm >/dev/null || exit 0; \
	cmp -s tests/clients/package-lock.json $(CLIENTS)/.lock || { \
	  echo "setting up the clients that the tests drive (once, about 10 s, 46 MB)…"; \
	  mkdir -p $(CLIENTS) && \
	  cp tests/clients/package.json tests/clients/package-lock.json tests/clients/.npmrc $(CLIENTS)/ && \
	  (cd $(CLIENTS) && npm ci --silent) && cp tests/clients/package-lock.json $(CLIENTS)/.lock; }

# `sam build` calls this with ARTIFACTS_DIR, as the template's BuildMethod: makefile says.
build-HttpFunction: $(DEPENDENCIES)/.compiled
	@test -n "$(ARTIFACTS_DIR)" || { echo "ARTIFACTS_DIR says where to build; make build sets it." >&2; exit 1; }
	@mkdir -p "$(ARTIFACTS_DIR)"
	@cp -R $(DEPENDENCIES)/. "$(ARTIFACTS_DIR)"
	@cp -R service "$(ARTIFACTS_DIR)"
	@find "$(ARTIFACTS_DIR)/service" -name __pycache__ -type d -prune -exec rm -rf {} +
	@rm -f "$(ARTIFACTS_DIR)/.fetched" "$(ARTIFACTS_DIR)/.compiled"
	@compiler="$(COMPILER)"; [ -z "$$compiler" ] || "$$compiler" $(COMPILE) -s "$(ARTIFACTS_DIR)" -p /var/task "$(ARTIFACTS_DIR)/service"

# The indexer's own package: what its handler imports, and of the wheels what that imports; a test runs it so.
INDEXER_PACKAGES := botocore dateutil jmespath pynamodb tzdata urllib3 six.py typing_extensions.py
build-IndexerFunction: $(DEPENDENCIES)/.compiled
	@test -n "$(ARTIFACTS_DIR)" || { echo "ARTIFACTS_DIR says where to build; make build sets it." >&2; exit 1; }
	@mkdir -p "$(ARTIFACTS_DIR)/service"
	@cp -R $(addprefix $(DEPENDENCIES)/,$(INDEXER_PACKAGES)) "$(ARTIFACTS_DIR)"
	@modules="$$($(PYTHON) tools/modules_of.py lambda_indexer)" && cp $$modules "$(ARTIFACTS_DIR)/service"
	@compiler="$(COMPILER)"; [ -z "$$compiler" ] || "$$compiler" $(COMPILE) -s "$(ARTIFACTS_DIR)" -p /var/task "$(ARTIFACTS_DIR)"

# The target's wheels, whatever this machine is. Of botocore's 23 MB of service descriptions the function needs one,
# and FastAPI takes the absence of pydantic.v1 as "nobody uses it": 37 MB become 14, and a cold start loses 60 ms.
$(DEPENDENCIES)/.fetched: requirements.txt Makefile | venv
	@rm -rf $(DEPENDENCIES) && mkdir -p $(DEPENDENCIES)
	@$(PYTHON) -m pip install --quiet --no-deps --no-compile --require-hashes --only-binary=:all: \
	  --implementation cp --python-version $(LAMBDA_PYTHON) \
	  --platform manylinux_2_28_$(WHEEL_MACHINE) --platform manylinux2014_$(WHEEL_MACHINE) \
	  --target $(DEPENDENCIES) -r requirements.txt
	@find $(DEPENDENCIES)/botocore/data -mindepth 1 -maxdepth 1 -type d ! -name dynamodb -exec rm -rf {} +
	@rm -rf $(DEPENDENCIES)/pydantic/v1 $(DEPENDENCIES)/bin
	@touch $@

# Without .pyc a cold start compiles everything, 0.7 s of processor time. Only the target's own minor version can write
# them; unchecked-hash, because a zip does not keep the times that the default check compares.
COMPILER = $(shell for candidate in python$(LAMBDA_PYTHON) $(PYTHON) "$${PYENV_ROOT:-$$HOME/.pyenv}"/versions/$(LAMBDA_PYTHON).*/bin/python; do \
  "$$candidate" -c 'import sys; sys.exit("%d.%d" % sys.version_info[:2] != "$(LAMBDA_PYTHON)")' >/dev/null 2>&1 && echo "$$candidate" && break; done)
COMPILE = -m compileall -q -j 2 --invalidation-mode unchecked-hash

$(DEPENDENCIES)/.compiled: $(DEPENDENCIES)/.fetched
	@compiler="$(COMPILER)"; if [ -n "$$compiler" ]; then \
	  "$$compiler" $(COMPILE) -s $(DEPENDENCIES) -p /var/task $(DEPENDENCIES) && touch $@; \
	else echo "no Python $(LAMBDA_PYTHON) on this machine: the package ships without .pyc, and cold starts take 0.7 s longer" >&2; fi
