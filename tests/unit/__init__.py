"""Decisions, without any service."""
