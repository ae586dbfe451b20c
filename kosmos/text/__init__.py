"""Words to token ids and back; boxes to location tokens and back."""
