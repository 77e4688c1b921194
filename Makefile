# Everything runs in a virtual environment that is made here; a fresh machine needs Rust, Python and make.
#
#   make demo    simulate ten frames, solve them, calibrate their camera, draw the result (demo/)
#   make test    all tests: Rust, Python, docstrings, README, notebook
#   make lint    formatting, clippy, rustdoc, ruff, mypy, stub, spelling; warnings are errors
#   make docs    the documentation, to docs/_build/html (BORESIGHT_OFFLINE=1 without network,
#                BORESIGHT_RUN_NOTEBOOKS=1 with what the notebooks print and draw)
#   make bench   benchmarks of the core
#   make clean   remove what was made here (the environment too)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

RUST_SOURCES := Cargo.toml Cargo.lock $(shell find rust data -name '*.rs' -o -name Cargo.toml -o -name '*.bin')

# Compilers take every core: they give way to the Python tests beside them. Cargo makes its own jobs.
CARGO := nice cargo
unexport MAKEFLAGS MFLAGS

.PHONY: demo test test-rust test-python lint lint-rust lint-python docs bench clean
.DEFAULT_GOAL := test

# Packages are built without isolation, so that the extension is compiled once: what builds them is installed
# here. Setuptools and wheel are for dependencies that come as source only (PIMS, through reproject).
$(VENV)/python.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip setuptools wheel
	$(PIP) "maturin>=1.9,<2"
	@touch $@

# The package, importable from python/, with the extension built for speed.
$(VENV)/package.stamp: $(VENV)/python.stamp $(RUST_SOURCES)
	$(PIP) --no-build-isolation --editable ".[plot]"
	@touch $@

# What testing, checking and the notebooks need besides.
$(VENV)/dev.stamp: pyproject.toml | $(VENV)/package.stamp
	$(PIP) --no-build-isolation --editable ".[dev]"
	@touch $@

demo: $(VENV)/package.stamp
	$(BIN)/boresight demo

# What concerns Rust alone needs no environment: `make --jobs=3 test lint` runs it beside the rest.
test: test-rust test-python

test-rust:
	$(CARGO) test --quiet

test-python: $(VENV)/package.stamp $(VENV)/dev.stamp
	$(BIN)/python -m pytest --quiet

lint: lint-rust lint-python

lint-rust:
	cargo fmt --all --check
	$(CARGO) clippy --quiet --workspace --all-targets -- --deny warnings
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --quiet --workspace --no-deps

lint-python: $(VENV)/package.stamp $(VENV)/dev.stamp
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy
	$(BIN)/python -m mypy.stubtest boresight._core
	$(BIN)/codespell

docs: $(VENV)/package.stamp $(VENV)/dev.stamp
	$(PIP) --no-build-isolation --editable ".[docs]"
	$(BIN)/python -m sphinx --fail-on-warning --keep-going docs docs/_build/html

bench:
	cargo bench

clean:
	cargo clean
	rm -rf $(VENV) demo docs/_build docs/api docs/notebooks .hypothesis .pytest_cache .mypy_cache .ruff_cache
	rm -f python/boresight/*.so
