"""Checking data before a run: what is missing, unreadable or in another convention."""
