# The two commands of the README: `make run` and `make test`. Both set up what they need, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
NAME ?= overhead

.PHONY: run test fast check style types docs wheel setup bench faults clean

run: setup  ## the quickstart search, with its table and report.html
	$(BIN)/evo launch quickstart

test: check  ## every check: the fast tests on all cores, then those that start clusters
	$(BIN)/python -m pytest -m "not slow" -n auto
	$(BIN)/python -m pytest -m slow -n 3 --dist loadfile  # they wait for Ray half of the time

fast: check  ## every check but the slow tests
	$(BIN)/python -m pytest -m "not slow" -n auto

check: setup  ## style, types and documentation, side by side
	$(MAKE) --no-print-directory --jobs=3 --output-sync style types docs

style: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup
	$(BIN)/mypy

docs: setup  ## the documentation, as pages in site/; fails on a broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: setup  ## make bench NAME=overhead, or NAME=replay ARGS=--full, or NAME=ablation
	$(BIN)/python -m tests.benchmarks.$(NAME) $(ARGS)

faults: setup  ## searches with simulated faults, 20,000 seeds on all cores; or make faults ARGS='--seeds 1 --first 7'
	$(BIN)/python -m tests.faults $(ARGS)

wheel: setup  ## the package as an sdist, and as a wheel built from it, in dist/
	$(BIN)/python -c "from setuptools.build_meta import build_sdist; build_sdist('dist')" > /dev/null
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist dist/evomix-$$($(BIN)/evo --version | cut -d' ' -f2).tar.gz

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "evomix needs Python 3.11 or newer; try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 2; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/python -W ignore -m compileall -qq -j 0 .venv/lib || true  # on all cores, which pip does not
	@touch $(READY)

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache build dist site *.egg-info
