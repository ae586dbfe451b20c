"""Other people's data to documents; shards are where it meets what trains on it."""
