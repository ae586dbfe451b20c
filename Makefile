# `make` checks everything that a change must pass; `make fast` is the part to run while writing.
.PHONY: test fast lint types unit docs bench

test: lint types
	python -m pytest

fast: lint types unit

lint:
	ruff format --check .
	ruff check .

types:
	mypy

unit:
	python -m pytest tests/unit tests/conventions

docs:
	python -m tools.reference

bench:
	python -m benchmarks.all
