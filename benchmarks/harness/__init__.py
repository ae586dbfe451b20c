"""What the benchmarks share: models, inputs, the peer, the clock, the table and the page."""
