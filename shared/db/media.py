"""Telegram's own copies of files, as each bot may name them."""

from dataclasses import dataclass
from typing import Final

from shared.db.connect import Raw


@dataclass(frozen=True, slots=True)
class Upload:
    """Telegram's own copy of a file, as one bot may name it."""

    file_id: int
    access_hash: int
    reference: bytes


_REMEMBER: Final = """
    INSERT INTO media_upload (bot_id, sha256, file_id, access_hash, file_reference)
    VALUES (%(bot)s, %(sha256)s, %(file_id)s, %(access_hash)s, %(reference)s)
    ON CONFLICT (bot_id, sha256) DO UPDATE SET
        file_id = excluded.file_id, access_hash = excluded.access_hash, file_reference = excluded.file_reference
"""


def remember_upload(db: Raw, bot: int, sha256: bytes, upload: Upload) -> None:
    """The bot has this copy now, whoever uploaded it; of two the later one stays, and both are good."""
    subject = {
        "bot": bot,
        "sha256": sha256,
        "file_id": upload.file_id,
        "access_hash": upload.access_hash,
        "reference": upload.reference,
    }
    db.execute(_REMEMBER, subject, prepare=True)
