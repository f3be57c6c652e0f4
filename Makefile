# One short command per habit. A fresh machine needs Python 3.11+ with its headers, gcc, and a network.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# What the installed package is made from; all else is read from this directory as it stands.
BUILT_FROM := pyproject.toml setup.py $(wildcard src_ext/*/*.pyx sse_fast/_native/*/*.pxd)
INSTALL := @echo 'installing; compiling the native core takes a minute or two'; $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help serve test check lint format bench bench-stream bench-workers bench-app bench-publish bench-expiry bench-outbox bench-backplane bench-storm bench-mercure bench-peers bench-quick docs docs-serve dist test-portable sanitize aarch64 matrix clean
.DEFAULT_GOAL := help

help: ## Show this
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /  make \1\t/' | expand -t 22

serve: $(VENV)/.installed ## Run the server (make serve ARGS='--port 9000')
	$(BIN)/sse-fast serve $(ARGS)

test: $(VENV)/.test-tools lint check ## Set up whatever the tests need, lint, and test

check: $(VENV)/.test ## Test, and no more (make check ARGS='-k settings -x')
	VENV=$(VENV) scripts/check $(ARGS)

lint: $(VENV)/.test ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/.test ## Let ruff put the files right
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/.bench ## Measure the encoder, the log, its channels and patterns, bulk publishing, the fan-out, gzip, the load client, responses
	$(BIN)/python benches/bench_encode.py
	$(BIN)/python benches/bench_channels.py
	$(BIN)/python benches/bench_patterns.py
	$(BIN)/python benches/bench_ndjson.py
	$(BIN)/python benches/bench_fanout.py
	$(BIN)/python benches/bench_filters.py
	$(BIN)/python benches/bench_compress.py
	$(BIN)/python benches/bench_typed.py
	$(BIN)/python benches/bench_conflate.py
	$(BIN)/python benches/bench_swarm.py
	$(BIN)/python benches/bench_responses.py

bench-stream: $(VENV)/.bench ## Measure streams beside Nchan and the floor: fan-out, opening, resuming, exactness; tokens
	$(BIN)/python benches/bench_fanout.py --only 'sse_fast,sse_fast asgi,raw C,nchan' $(ARGS)
	$(BIN)/python benches/bench_stream.py
	$(BIN)/python benches/bench_tokens.py

bench-workers: $(VENV)/.bench ## Measure two workers beside one, and hold 60,000 streams on one machine
	$(BIN)/python benches/bench_workers.py $(ARGS)

bench-app: $(VENV)/.bench ## Measure a FastAPI app behind the front: relayed requests beside Granian alone, held streams
	$(BIN)/python benches/bench_relay.py $(ARGS)
	$(BIN)/python benches/bench_hold.py $(ARGS)

bench-publish: $(VENV)/.bench ## Measure one POST of one event beside Nchan and Centrifugo, alone and with its delivery
	$(BIN)/python benches/bench_publish.py $(ARGS)

bench-expiry: $(VENV)/.bench ## Measure 10,000 streams whose tokens end in the same second: spread, back, complete
	$(BIN)/python benches/bench_expiry.py $(ARGS)

bench-outbox: $(VENV)/.bench ## Measure what an outbox costs a PostgreSQL's transactions, and its relay an event
	$(BIN)/python benches/bench_outbox.py $(ARGS)

bench-backplane: $(VENV)/.bench ## Measure publishing over Redis from 1, 16 and 64 publishers: CPU here and of Redis; two nodes beside Centrifugo
	$(BIN)/python benches/bench_backplane.py $(ARGS)
	$(BIN)/python benches/bench_fleet.py $(ARGS)
	$(BIN)/python benches/bench_start.py

bench-storm: $(VENV)/.bench ## 30,000 streams over three nodes and a Redis, all cut at once: back, complete, and what Redis was asked
	$(BIN)/python benches/bench_storm.py $(ARGS)

bench-mercure: $(VENV)/.bench ## Measure Mercure's endpoints beside Mercure's own hub: fan-out and publishing, with tokens
	$(BIN)/python benches/bench_mercure.py $(ARGS)

bench-peers: $(VENV)/.bench ## Measure sse_fast beside its peers; half an hour, report in benches/results/
	$(BIN)/python benches/bench_peers.py $(ARGS)

bench-quick: $(VENV)/.bench ## Does the load client get everything, from sse_fast and from the peers that are here?
	$(BIN)/python benches/bench_peers.py --quick $(ARGS)
	$(BIN)/python benches/bench_responses.py --quick
	$(BIN)/python benches/bench_stream.py --quick
	$(BIN)/python benches/bench_workers.py --quick
	$(BIN)/python benches/bench_relay.py --quick
	$(BIN)/python benches/bench_publish.py --quick
	$(BIN)/python benches/bench_hold.py --quick
	$(BIN)/python benches/bench_tokens.py --quick
	$(BIN)/python benches/bench_expiry.py --quick
	$(BIN)/python benches/bench_backplane.py --quick
	$(BIN)/python benches/bench_fleet.py --quick
	$(BIN)/python benches/bench_start.py --quick
	$(BIN)/python benches/bench_patterns.py --quick
	$(BIN)/python benches/bench_typed.py --quick
	$(BIN)/python benches/bench_compress.py --quick
	$(BIN)/python benches/bench_conflate.py --quick
	$(BIN)/python benches/bench_outbox.py --quick
	$(BIN)/python benches/bench_mercure.py --quick

docs: $(VENV)/.docs ## Build the documentation into site/ (make docs-serve shows it at port 8080 while you write)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

docs-serve: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8080

test-portable: $(VENV)/.test ## Build what does not need Linux as it is built elsewhere, and test that
	PYTHON=$(BIN)/python scripts/portable $(ARGS)

dist: $(VENV)/.test ## Make the sdist and a wheel for every CPython to be had here, and try each without a compiler
	PYTHON=$(BIN)/python scripts/dist $(ARGS)

sanitize: $(VENV)/.test ## Drive every native module under ASan and UBSan (two minutes; an hour: make sanitize ARGS=--long)
	PYTHON=$(BIN)/python scripts/sanitized tests/sanitize.py $(ARGS)

aarch64: $(VENV)/.test ## Build for aarch64 and test in an emulator (some minutes; Debian, the first time with root)
	PYTHON=$(BIN)/python scripts/aarch64 $(ARGS)

matrix: ## Build and test with every CPython 3.11, 3.12, 3.13 on this machine
	scripts/matrix

clean: ## Remove what was built here
	rm -rf $(VENV) build dist *.egg-info src_ext/*/*.c sse_fast/_native/*/*.so tests/node/node_modules tests/node/openapi/node_modules benches/build

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit("sse_fast needs Python 3.11 or newer; say make PYTHON=..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.installed: $(BUILT_FROM) | $(VENV)/.created
	$(INSTALL) --editable '.[edge]'
	@touch $@

# With what the benches need, which is little more: an editable install compiles everything each time.
$(VENV)/.test: $(BUILT_FROM) | $(VENV)/.created
	$(INSTALL) --editable '.[test,bench]'
	@touch $(VENV)/.installed $(VENV)/.bench $@

$(VENV)/.bench: $(BUILT_FROM) | $(VENV)/.created
	$(INSTALL) --editable '.[bench]'
	@touch $(VENV)/.installed $@

$(VENV)/.docs: docs/requirements.txt | $(VENV)/.installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement docs/requirements.txt
	@touch $@

$(VENV)/.test-tools: scripts/test-setup tests/node/package.json tests/node/openapi/package.json | $(VENV)/.created
	scripts/test-setup
	@touch $@
