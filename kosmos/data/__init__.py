"""Documents to batches: sources, packing, mixture and a loader that is a function of the step."""
