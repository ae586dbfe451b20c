"""Showing rows as a model gets them: in words, as pictures, as a page."""
