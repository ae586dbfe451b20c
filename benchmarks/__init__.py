"""Benchmarks: ours beside the peer and the physical limit, a file for each."""
