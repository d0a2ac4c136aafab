"""Photos and videos of welcomes: uploaded once for each bot, and again when Telegram no longer takes the copy."""

import hashlib
from pathlib import Path
from typing import Any

import pytest

from shared.db.connect import Raw
from shared.domain.media import MediaType, file_name
from tests.db.support import scalar
from tests.ingest.mouth import Mouth, mouth, until
from tests.world import World

ANN, BEN = 1_001, 1_002
CONTENT = b"not really a picture" * 100


@pytest.fixture
def opened(database_url: str, db: Raw, world: World, tmp_path: Path) -> Any:
    return lambda: mouth(database_url, db, world, tmp_path)


async def bot_with_media(m: Mouth, kind: MediaType, *, stored: bool = True, **settings: Any) -> tuple[int, int]:
    owner = m.world.account()
    sha256 = hashlib.sha256(CONTENT).digest()
    m.db.execute(
        "INSERT INTO media (id, account_id, type, sha256, size, name) VALUES ('m', %s, %s, %s, %s, '') ON CONFLICT DO NOTHING",
        [owner.id, kind, sha256, len(CONTENT)],
    )
    if stored:
        (m.media / file_name(sha256)).write_bytes(CONTENT)
    return await m.bot(owner, media="m", media_type=kind, **settings)


def uploads(m: Mouth, bot: int) -> int:
    return m.core.record.methods(m.tg[bot]).count("UploadMedia")


@pytest.mark.parametrize(("kind", "shown"), [(MediaType.PHOTO, "MessageMediaPhoto"), (MediaType.VIDEO, "MessageMediaDocument")])
async def test_a_file_stands_above_the_text_and_the_button(opened: Any, kind: MediaType, shown: str) -> None:
    async with opened() as m:
        bot, campaign = await bot_with_media(m, kind, welcome="*Look*", button_text="Go", button_url="https://example.com")
        m.send(bot, ANN, campaign)
        await m.emptied()
        (sent,) = m.messages(ANN)
        assert (sent.media, sent.text, sent.entities[0]["_"], sent.buttons[0]["text"]) == (shown, "Look", "MessageEntityBold", "Go")


async def test_a_video_says_that_it_is_one(opened: Any) -> None:
    async with opened() as m:
        bot, campaign = await bot_with_media(m, MediaType.VIDEO, welcome="")
        m.send(bot, ANN, campaign)
        await m.emptied()
        ((_, media),) = m.core.world.bots[m.tg[bot]].media.items()
        assert (media.document.mime_type, type(media.document.attributes[0]).__name__) == ("video/mp4", "DocumentAttributeVideo")


async def test_a_file_is_uploaded_once_for_each_bot_however_many_messages_it_belongs_to(opened: Any) -> None:
    async with opened() as m:
        bot, campaign = await bot_with_media(m, MediaType.PHOTO, welcome="Look")
        other, second = await bot_with_media(m, MediaType.PHOTO, welcome="Look")
        for person in range(3_000, 3_010):
            m.send(bot, person, campaign)
            m.send(other, person, second)
        await m.emptied()
        assert (uploads(m, bot), uploads(m, other), len(m.core.record.sent)) == (1, 1, 20)
        m.send(bot, ANN, campaign)
        await m.emptied()  # by a sender that knows nothing of the one before
        assert (uploads(m, bot), len(m.messages(ANN))) == (1, 1)


async def test_a_copy_that_telegram_no_longer_takes_is_made_again(opened: Any) -> None:
    async with opened() as m:
        bot, campaign = await bot_with_media(m, MediaType.PHOTO, welcome="Look")
        m.send(bot, ANN, campaign)
        await m.emptied()
        m.core.expire_media(m.tg[bot])
        m.send(bot, BEN, campaign)
        await m.emptied()
        assert (len(m.messages(BEN)), uploads(m, bot)) == (1, 2)
        m.send(bot, ANN, campaign)
        await m.emptied()
        assert (len(m.messages(ANN)), uploads(m, bot)) == (2, 2)


async def test_a_file_that_is_not_there_puts_the_message_off_until_it_is(opened: Any) -> None:
    async with opened() as m:
        bot, campaign = await bot_with_media(m, MediaType.PHOTO, stored=False, welcome="Look")
        m.send(bot, ANN, campaign)
        async with m.sending():
            await until(lambda: scalar(m.db, "SELECT attempts FROM send") == 1, "it was put off")
            (m.media / file_name(hashlib.sha256(CONTENT).digest())).write_bytes(CONTENT)
            m.db.execute("UPDATE send SET due = now()")
            await until(lambda: m.waiting() == 0, "it was sent")
        assert len(m.messages(ANN)) == 1


async def test_a_person_who_blocked_the_bot_does_not_spoil_the_upload(opened: Any) -> None:
    async with opened() as m:
        bot, campaign = await bot_with_media(m, MediaType.PHOTO, welcome="Look")
        m.send(bot, ANN, campaign)
        m.send(bot, BEN, campaign)
        m.core.people.block(ANN, m.tg[bot])
        await m.emptied()
        assert (len(m.messages(ANN)), len(m.messages(BEN)), uploads(m, bot)) == (0, 1, 1)
        assert scalar(m.db, "SELECT subscriber FROM blocked") == ANN
