"""Forms of weights for a model that only answers: rearranged for the processor, or of one byte."""
