"""Documents to batches: index, packing, mixture and a loader that is a function of the step."""
