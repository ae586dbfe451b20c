"""One class per evaluation task."""
