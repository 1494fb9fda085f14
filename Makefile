# The two commands for a fresh machine are `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
# The versions to install; constraints-lowest.txt has the lowest torch that is allowed.
CONSTRAINTS ?= constraints.txt
BIN := $(VENV)/bin
NATIVE := CMakeLists.txt $(wildcard native/*.?pp)

.PHONY: demo test test-rest fuzz lint stub sanitize bench bench-table bench-estimators bench-forecast bench-insight bench-layers bench-tasks bench-gpu scaling test-gpu test-gpu-sanitize accuracy contract gallery docs clean

demo: $(VENV)/.installed
	$(BIN)/retrograd fit sunspots --target sunspots --time year --model recurrent --test 1921 --horizon 22 --out runs/sunspots --overwrite

# One worker a core; each runs one torch thread (tests/conftest.py).
PYTEST := $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist worksteal
test: $(VENV)/.installed
	$(PYTEST) -m "not slow"

# All that `make test` leaves out, and every test with drawn inputs again with many more of them.
test-rest: $(VENV)/.installed
	$(PYTEST) -m "slow or hypothesis" --hypothesis-profile=thorough

# Tables, run folders and archives that nobody thought of, CASES of them from number FIRST on; the counts are printed.
CASES ?= 5000
FIRST ?= 0
fuzz: $(VENV)/.installed
	cd tests && ../$(BIN)/python -m cli.fuzz $(CASES) $(FIRST)

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The native module's types, from the module itself; a test sees that they are up to date.
stub: $(VENV)/.installed
	$(BIN)/python native/stub.py

# The core alone, without Python, under the address, undefined-behaviour and thread sanitizers: wants a C++ compiler
# and CMake.
SANITIZERS := address,undefined thread
sanitize:
	set -e; for kind in $(SANITIZERS); do \
	  cmake -S . -B build/sanitize-$$kind -DRETROGRAD_TESTS=ON -DRETROGRAD_SANITIZE=$$kind; \
	  cmake --build build/sanitize-$$kind --parallel 2; \
	  ctest --test-dir build/sanitize-$$kind --output-on-failure --no-tests=error; \
	done

# Each writes its results from a clean commit alone; ARGS=--dry-run measures on any tree, and writes nothing.
bench: $(VENV)/.installed
	$(BIN)/python -m benchmarks.run $(ARGS)

# JAX_SYSID=PYTHON compares with jax-sysid, in whatever environment has it.
bench-estimators: $(VENV)/.installed
	$(BIN)/python -m benchmarks.estimators $(if $(JAX_SYSID),--jax-sysid $(JAX_SYSID)) $(ARGS)

bench-forecast: $(VENV)/.installed
	$(BIN)/python -m benchmarks.forecast $(ARGS)

bench-insight: $(VENV)/.installed
	$(BIN)/python -m benchmarks.insight $(ARGS)

bench-layers: $(VENV)/.installed
	$(BIN)/python -m benchmarks.layers $(ARGS)

# Trains: half an hour on one core, and half an hour more with ARGS="--archive FOLDER" of Fashion-MNIST.
bench-tasks: $(VENV)/.installed
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.tasks $(ARGS)

# On a machine with a GPU, in whatever environment has a torch for it: make bench-gpu GPU_PYTHON=python3
GPU_PYTHON ?= $(BIN)/python
bench-gpu:
	PYTHONPATH=src $(GPU_PYTHON) -m benchmarks.gpu $(ARGS)

# The laws of every backend, and what only a GPU can show: torch for CUDA, NumPy and pytest are enough. Compiling takes
# most of the time; kernels stay in Triton's cache, so that a run that was cut off goes on where it was. Parts: TESTS=FILE,
# ARGS='-m "not slow"'.
TESTS := tests/backends/test_triton_gpu.py tests/backends/test_triton*.py tests/conformance.py
test-gpu:
	RETROGRAD_TEST_DEVICE=cuda PYTHONPATH=src $(GPU_PYTHON) -m pytest -k triton $(TESTS) $(ARGS)

# Memory errors, races in shared memory and barriers that not all threads meet, in every kernel: minutes each, one by
# TOOLS=memcheck.
SANITIZER ?= compute-sanitizer
TOOLS := memcheck racecheck synccheck
test-gpu-sanitize:
	set -e; for tool in $(TOOLS); do \
	  RETROGRAD_TEST_DEVICE=cuda PYTHONPATH=src PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
	    $(SANITIZER) --tool $$tool --error-exitcode 1 --target-processes application-only \
	    $(GPU_PYTHON) -m pytest -m "not slow" tests/backends/test_triton.py tests/backends/test_triton_varying.py \
	    -k "loop or leave_the_range or lost" $(ARGS); \
	done

# Time over 1, 2 and 4 ranks of one thread, and the model of more.
scaling: $(VENV)/.installed
	$(BIN)/python -m benchmarks.scaling $(ARGS)

accuracy: $(VENV)/.installed
	$(BIN)/python -m benchmarks.accuracy $(ARGS)

contract: $(VENV)/.installed
	$(BIN)/python -m benchmarks.contract $(ARGS)

bench-table: $(VENV)/.installed
	$(BIN)/python -m benchmarks.table
	$(BIN)/python -m benchmarks.plot
	$(BIN)/python -m benchmarks.layer_table

# The pictures, and in figures.json the numbers that docs/gallery.md gives.
EXAMPLES := airline cosine random_walk vanishing_exploding truncation_bias binary_addition chirp
GALLERY := docs/images/gallery
gallery: $(VENV)/.installed
	rm -f $(GALLERY)/figures.json
	set -e; for example in $(EXAMPLES); do \
	  gif=$$(test $$example != cosine || echo --gif); \
	  $(BIN)/python examples/$$example.py $$gif --overwrite \
	    --out $(GALLERY)/$$example.png --figures $(GALLERY)/figures.json; \
	done

docs: $(VENV)/.installed
	$(BIN)/python -m pip install -q -c $(CONSTRAINTS) -e ".[docs]"
	$(BIN)/mkdocs build --strict

# Editable, so that the sources are live; again whenever the core or the requirements change.
$(VENV)/.installed: pyproject.toml $(CONSTRAINTS) $(NATIVE)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --upgrade pip
	$(BIN)/python -m pip install -q -c $(CONSTRAINTS) -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) build dist runs
