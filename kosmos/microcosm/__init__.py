"""A procedural world about which everything is known: the embedded default of every command."""
