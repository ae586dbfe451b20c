"""Whether documents of a row see each other: who may, and who does."""
