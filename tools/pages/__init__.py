"""The pages of docs/reference, one function for each."""
