"""The ledger: decides transfers and commits them; removes the leads that transfers dropped."""
