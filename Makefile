# Everything that a person or CI does with this tree. `make help` lists it.
# A virtual environment in .venv is made when first needed and again only when pyproject.toml changes.

BIN := .venv/bin
COMPILED := $(wildcard resolver/*/*.pyx resolver/*/*.pxd)

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help run test lint smoke bench format packages clean

help:  ## say what can be made
	@sed -n 's/^\([a-z]*\):.*  ## /  make \1\t/p' Makefile | expand -t 18

run: .venv/installed  ## serve on 127.0.0.1:5300, with a demo cluster behind it; Ctrl-C stops both
	@sh deploy/local/run.sh

test: packages lint  ## all checks and all tests; installs what they need
	@echo "==> tests"
	@$(BIN)/python -m pytest -v --durations=10

lint: .venv/installed-test  ## style, types, import direction
	@echo "==> ruff check"
	@$(BIN)/ruff check .
	@echo "==> ruff format --check"
	@$(BIN)/ruff format --check .
	@echo "==> mypy"
	@$(BIN)/mypy
	@echo "==> lint-imports"
	@$(BIN)/lint-imports

format: .venv/installed-test  ## lay out the code as lint wants it
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

smoke: packages .venv/installed-test  ## microseconds for hit, stored answer and miss, beside unbound
	@$(BIN)/python -m perf.smoke

# Under 40 minutes with node-cache, on a quiet machine, as root; it says how long it still takes. BENCH takes more flags:
# make bench BENCH='--node-cache ./node-cache'
bench: packages .venv/installed-test  ## beside unbound, dnsmasq, Knot Resolver, PowerDNS and the floor; rewrites docs/performance.md
	@sh tests/packages.sh kresd:knot-resolver pdns_recursor:pdns-recursor
	@$(BIN)/python -m perf all --json docs/performance.json --report $(BENCH)

packages:
	@sh tests/packages.sh

clean:  ## remove what was made here, the virtual environment too
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/bin/python:
	@sh deploy/local/venv.sh

.venv/installed: pyproject.toml setup.py $(COMPILED) | .venv/bin/python
	@echo "==> installing node-resolver into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

.venv/installed-test: pyproject.toml setup.py $(COMPILED) | .venv/bin/python
	@echo "==> installing node-resolver and what its tests need into .venv"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,tools]'
	@touch .venv/installed $@
