"""What a run did: the page that says what ran, on what, how it went, how to repeat it."""
