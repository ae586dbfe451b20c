# `make` checks everything that a change must pass; `make fast` is the part to run while writing.

# a process per core, of one thread each: threads of several would wait for each other, spinning;
# files in their own order, in which those with few and long tests do not come last
PYTEST = OMP_NUM_THREADS=1 python -m pytest -n auto --maxprocesses 8 --dist loadfile \
	--no-loadscope-reorder

.PHONY: test fast lint types unit docs bench

test: lint types
	$(PYTEST)

fast: lint types unit

lint:
	ruff format --check .
	ruff check .

types:
	mypy

unit:
	$(PYTEST) tests/unit tests/conventions

docs:
	python -m tools.reference

bench:
	python -m benchmarks.all
