"""Bytes to pixels, what a crop does to a box, and drawing."""
