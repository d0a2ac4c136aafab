"""Tests on real services: PostgreSQL, RabbitMQ, and our processes as processes."""
