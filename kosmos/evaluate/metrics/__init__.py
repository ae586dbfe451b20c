"""Scores as the official tools compute them."""
