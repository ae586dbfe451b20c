"""What a run takes: shapes of micro-batches, and from them operations, memory and time."""
