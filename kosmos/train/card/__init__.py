"""The run card: what ran, on what, how it went, how to repeat it."""
