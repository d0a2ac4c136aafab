"""The ledger and the outbox on a real database, in this process."""
