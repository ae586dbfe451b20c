"""Answers to numbers: tasks, metrics, the runner and the report."""
