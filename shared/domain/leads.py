"""Leads as the API names their states."""

from enum import IntEnum


class LeadStatus(IntEnum):
    """Status of a lead; part of the public API."""

    WAIT = 0
    HOLD = 1
    APPROVE = 2
    CANCEL = 3
    TRASH = 4
