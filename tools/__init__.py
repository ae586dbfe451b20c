"""Tools for people who work on the project; nothing in the package needs them."""
