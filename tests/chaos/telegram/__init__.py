"""Telegram under fire: listeners, ingest workers and senders are killed and stopped while the test Telegram misbehaves.

The judge knows the server's own record, what became of it in the database, and what the harness did; nothing of how it came about.
"""
