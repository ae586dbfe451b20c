"""Batches to logits: decoder, vision tower, connectors. Torch and the spring, nothing else."""
