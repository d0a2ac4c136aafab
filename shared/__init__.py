"""What every process of Gatepost stands on: decisions, messages, the database, the broker."""
