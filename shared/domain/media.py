"""Photos and videos of welcome messages: what they may be, and where they lie."""

from enum import IntEnum


class MediaType(IntEnum):
    """What a file is shown as; part of the public API."""

    PHOTO = 1
    VIDEO = 2


def file_name(sha256: bytes) -> str:
    """A file's name in the media folder: what it contains, so that no two files are kept twice and none ever changes."""
    return sha256.hex()
