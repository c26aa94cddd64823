# Needs python3 (3.11 or newer) and make beforehand; every target installs the rest and does nothing twice.
PYTHON ?= python3
BIN := .venv/bin
AGENTS := .venv-agents/bin
# They mostly wait, so four wait at once; those with media run one by one, since they need the whole machine.
FOUR_AT_ONCE := $(BIN)/python -m pytest -n 4 --dist loadfile
RECORDED := $(wildcard tests/*/test_cassettes.py)
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# Every pytest and every program under test would compile our modules anew: ten seconds each time.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install demo test quick test-oldest generate lint docs docs-test dist bench soak campaign mutants record record-live livekit-server chromium mermaid requirements clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/:/' | column -ts:

demo: .venv/.demo ## Run the keyless demo and print its address (ARGS="--say Hello --record out.mp4")
	@$(BIN)/agenthuman demo $(ARGS)

test: .venv/.dev .venv-agents/.installed .venv-langchain-oldest/.installed .venv-langchain-newest/.installed chromium mermaid ## Run all tests (ARGS="tests/client -x" for some)
ifeq ($(ARGS),)
	@scripts/with_network $(FOUR_AT_ONCE) -m "not media"
	@scripts/with_network $(BIN)/python -m pytest -m media
else
	@scripts/with_network $(BIN)/python -m pytest $(ARGS)
endif

quick: .venv/.dev ## Run the tests that start no server, browser or tool (about 3 minutes; ARGS="tests/client" for some)
	@$(FOUR_AT_ONCE) -m "not chain" $(ARGS)

test-oldest: .venv-pipecat-oldest/.installed .venv-langchain-oldest/.installed ## Run the tests on the oldest Pipecat and the oldest LangChain that we support
	@.venv-pipecat-oldest/bin/python -m pytest tests/pipecat -m "not chain and not campaign" --ignore-glob='*/test_chain*.py' --ignore-glob='*/test_examples*.py' --ignore tests/pipecat/faults --ignore tests/pipecat/test_cassettes.py $(ARGS)
	@.venv-langchain-oldest/bin/python -m pytest tests/langchain -m "not chain and not campaign" --ignore tests/langchain/standard --ignore tests/langchain/test_examples.py --ignore tests/langchain/stage/test_browser.py --ignore tests/langchain/test_versions.py $(ARGS)

generate: .venv/.dev ## Write the sync client from the async one, and the pages' code and tables of facts
	@$(BIN)/python scripts/generate_sync
	@$(BIN)/python scripts/page_code
	@$(BIN)/python scripts/tested_versions

lint: .venv/.dev ## Style, types and layers, and whether what `make generate` writes is fresh
	$(BIN)/python scripts/generate_sync --check
	$(BIN)/python scripts/page_code --check
	$(BIN)/python scripts/tested_versions --check
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: .venv/.dev mermaid ## Build the documentation into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-test: .venv/.dev ## Follow every tutorial and how-to, and list what was run (ARGS="tutorials/client", or --fresh for new environments)
	@scripts/with_network $(BIN)/python -m tests.pasted $(ARGS)

dist: .venv-release/.installed ## Build the package and its two thin namesakes into dist/
	@for project in . distributions/*; do .venv-release/bin/python -m build --no-isolation --outdir dist $$project || exit 1; done

bench: .venv/.dev .venv-langchain-peers/.installed .venv-pipecat-peers/.installed chromium ## Measure delays and costs on this machine, also beside other packages (BENCH=chain for one part)
ifeq ($(BENCH),)
	@scripts/with_network $(BIN)/python -m benchmarks
	@scripts/with_network $(BIN)/python -m benchmarks langchain
	@scripts/with_network .venv-pipecat-peers/bin/python -m benchmarks peers cost
else
	@scripts/with_network $(if $(filter peers cost,$(BENCH)),.venv-pipecat-peers/bin,$(BIN))/python -m benchmarks $(BENCH)
endif

soak: .venv/.dev ## Run a bot for 20 minutes with an interruption every 7 seconds (ARGS="--minutes 2" for less)
	@scripts/with_network $(BIN)/python -m benchmarks soak $(ARGS)

campaign: .venv/.dev ## Run the seeded fault campaigns at full count (minutes to hours)
	@AGENTHUMAN_CAMPAIGN=full scripts/with_network $(BIN)/python -m pytest -m campaign --timeout 3600

mutants: .venv/.dev ## Break the pure modules in 60 places, and see whether their tests notice (ARGS="--all pipecat/_life" for every place in one)
	@$(BIN)/python scripts/mutants $(ARGS)

record: .venv/.dev ## Record the cassettes anew against the emulator, and replay them
	@$(BIN)/python -m pytest $(RECORDED) -m vcr --record-mode=rewrite
	@$(BIN)/python -m pytest $(RECORDED)

record-live: .venv/.dev ## Record one session of the real service (AGENTHUMAN_API_KEY; bills its minutes)
	@$(BIN)/python -m tests.client.record_live

livekit-server: ## Build a real livekit-server into .tools/bin (needs Go); the tests then run on it too
	@scripts/livekit_server

chromium:
	@scripts/chromium

mermaid: .venv/.dev
	@$(BIN)/python scripts/mermaid >/dev/null

install: .venv/.dev ## Install the package and everything for its development into .venv

requirements: .venv/.dev ## Compile requirements/*.txt anew from pyproject.toml
	$(BIN)/pip install -q 'uv>=0.9'
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --all-extras --group dev -o requirements/dev.txt pyproject.toml
	$(BIN)/uv pip compile -q --universal --python-version 3.11 --extra demo -c requirements/dev.txt -o requirements/demo.txt pyproject.toml
	for set in agents langchain-newest langchain-oldest langchain-peers pipecat-oldest pipecat-peers; do $(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 -o requirements/$$set.txt requirements/$$set.in || exit 1; done
	$(BIN)/uv pip compile -q --upgrade --universal --python-version 3.11 --generate-hashes -o requirements/release.txt requirements/release.in
	$(BIN)/python scripts/tested_versions

clean: ## Remove what the other targets made
	rm -rf .venv .venv-* .tools site .mypy_cache .ruff_cache .pytest_cache

.venv/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "agenthuman_plugins needs Python 3.11 or newer: make PYTHON=python3.11 …")'
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/.demo: .venv/.python requirements/demo.txt pyproject.toml
	@echo "Installing the demo into .venv (about 1 GB, once) …"
	@$(BIN)/pip install -q -r requirements/demo.txt
	@$(BIN)/pip install -q --no-deps -e .
	@touch $@

.venv/.dev: .venv/.python requirements/dev.txt pyproject.toml
	@echo "Installing the development tools into .venv (about 1.2 GB, once) …"
	@$(BIN)/pip install -q -r requirements/dev.txt
	@$(BIN)/pip install -q --no-deps -e .
	@touch .venv/.demo $@

# livekit-agents pins one exact livekit, so the cross-check against it has an environment of its own.
.venv-agents/.installed: requirements/agents.txt
	@echo "Installing livekit-agents into .venv-agents (about 0.4 GB, once) …"
	@$(PYTHON) -m venv .venv-agents
	@$(AGENTS)/pip install -q -r requirements/agents.txt
	@touch $@

# What is published is built from pins with hashes, and by nothing else.
.venv-release/.installed: requirements/release.txt
	@$(PYTHON) -m venv .venv-release
	@.venv-release/bin/pip install -q --require-hashes -r $<
	@touch $@

# Sets with pins of their own: what ours is measured against, and both ends of the versions that we support.
.venv-%/.installed: requirements/%.txt
	@echo "Installing requirements/$*.txt into .venv-$* (once) …"
	@$(PYTHON) -m venv .venv-$*
	@.venv-$*/bin/pip install -q -r $<
	@.venv-$*/bin/pip install -q --no-deps -e .
	@touch $@
