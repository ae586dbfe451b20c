"""What a run will take: tokens, parameters, memory, operations, time."""
