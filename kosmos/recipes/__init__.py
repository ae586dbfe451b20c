"""Experiments are functions returning a whole Run."""
