"""Batches to logits: MAGNETO decoder, vision tower, connectors. Torch and the spring, nothing else of ours."""
