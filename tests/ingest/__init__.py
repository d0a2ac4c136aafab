"""Telegram in and out: our own code, with real clients, against the fake server and a real database."""
