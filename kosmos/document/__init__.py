"""The currency: documents, how they are stored, and the one encoder that lays out tokens."""
