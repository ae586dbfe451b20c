"""A model and documents to answers: generate, score, ground."""
