"""Flows through real processes."""
