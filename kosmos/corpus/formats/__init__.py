"""Readers: real formats into documents, one file per format."""
