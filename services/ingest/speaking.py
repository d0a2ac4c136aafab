"""One message of a bot's: its words, its photo or video, and what Telegram's answer to it means."""

import asyncio
from collections.abc import Awaitable
from pathlib import Path
from typing import Any, Final, TypeVar

import structlog
from telethon import errors
from telethon.tl import functions, types

from services.ingest.database import Database
from shared.db.media import Upload, remember_upload
from shared.db.sends import NOTICE_DAYS_MAX, Due, Outcome, SendKind, Verdict
from shared.domain import notices, postbacks
from shared.domain.campaigns import CampaignStatus
from shared.domain.deeplinks import build
from shared.domain.leads import LeadStatus
from shared.domain.markdown import Entity, Kind
from shared.domain.media import MediaType, file_name
from shared.domain.notices import Language, NoticeKind
from shared.domain.welcome import Message, moved, plain, welcome
from shared.failpoints import failpoint

T = TypeVar("T")

log = structlog.get_logger("sending")

#: Seconds for Telegram's answer to a message, and for a whole file to be uploaded.
ANSWER_S: Final = 20.0
UPLOAD_S: Final = 300.0

#: Files that a process uploads at once.
UPLOADS_MAX: Final = 4

#: Seconds after which a message is no longer worth sending; notices wait longer for their owner.
AGE_S_MAX: Final = 86_400
NOTICE_AGE_S_MAX: Final = NOTICE_DAYS_MAX * 86_400

#: Seconds before the second try; doubled for each further one up to the maximum.
BACKOFF_S: Final = 1.0
BACKOFF_S_MAX: Final = 600.0
DOUBLINGS_MAX: Final = 10

#: Seconds a bot pauses if Telegram says that it floods, but not for how long.
FLOOD_S: Final = 60.0

#: Nobody is there who would see a message.
_NOBODY: Final = (errors.UserIsBlockedError, errors.InputUserDeactivatedError, errors.PeerIdInvalidError, errors.UserIdInvalidError)

#: Telegram no longer takes the copy of the file that the bot had.
_STALE: Final = (
    errors.FileReferenceExpiredError,
    errors.FileReferenceInvalidError,
    errors.FileReferenceEmptyError,
    errors.MediaEmptyError,
)

#: Refusals of the moment among those that are for ever.
_MOMENTARY: Final = (errors.MsgWaitFailedError, errors.PostponedTimeoutError)


class Speaker:
    """Says what is due. A file is uploaded once for each bot, however many messages wait for it."""

    def __init__(self, db: Database, media: Path | None) -> None:
        self._db = db
        self._media = media
        self._uploads: dict[tuple[int, bytes], asyncio.Task[Upload]] = {}
        self._uploading = asyncio.Semaphore(UPLOADS_MAX)

    async def say(self, client: Any, send: Due) -> Outcome:
        """Send one message, and tell what came of it; errors are outcomes."""
        if send.age_s > (NOTICE_AGE_S_MAX if send.kind == SendKind.NOTICE else AGE_S_MAX):
            return Outcome(send, Verdict.REFUSED, trouble="too late")
        try:
            message = words(send)
            if message is None:
                return Outcome(send, Verdict.REFUSED, trouble="nothing to say")
            await self._deliver(client, send, message)
        except errors.RandomIdDuplicateError:
            return Outcome(send, Verdict.SENT)
        except Exception as error:  # noqa: BLE001  # it becomes an outcome
            return judge(send, error)
        failpoint("sending.accepted")
        return Outcome(send, Verdict.SENT)

    async def close(self) -> None:
        """Give up uploads that are under way."""
        for upload in self._uploads.values():
            upload.cancel()
        await asyncio.gather(*self._uploads.values(), return_exceptions=True)

    async def _deliver(self, client: Any, send: Due, message: Message) -> None:
        """Send it; again with a new copy of its file if Telegram does not take the old one, or without the mentions that it does not."""
        upload = None
        if shows_media(send):
            upload = send.upload or await self._upload(client, send)
        try:
            await ask(client, request(send, message, upload))
        except _STALE:
            if upload is None:
                raise
            await ask(client, request(send, message, await self._upload(client, send)))
        except errors.EntityMentionUserInvalidError:
            await ask(client, request(send, message, upload, mentions=False))

    async def _upload(self, client: Any, send: Due) -> Upload:
        assert send.media_sha256 is not None
        key = (send.bot, send.media_sha256)
        if key not in self._uploads:
            self._uploads[key] = asyncio.create_task(self._upload_now(client, send, send.media_sha256))
            self._uploads[key].add_done_callback(lambda _: self._uploads.pop(key))
        return await asyncio.shield(self._uploads[key])

    async def _upload_now(self, client: Any, send: Due, sha256: bytes) -> Upload:
        """Upload the file, and write down its new name before the next message can ask for it."""
        if self._media is None:
            raise FileNotFoundError("no media folder is set")
        async with self._uploading:
            name = send.media_name or ("photo.jpg" if send.media_type == MediaType.PHOTO else "video.mp4")
            work = client.upload_file(str(self._media / file_name(sha256)), file_name=name)
            file = await within(asyncio.ensure_future(work), UPLOAD_S)
            kept = await ask(client, functions.messages.UploadMediaRequest(types.InputPeerEmpty(), uploaded(send, file, name)))
        copy = kept.photo if send.media_type == MediaType.PHOTO else kept.document
        upload = Upload(copy.id, copy.access_hash, copy.file_reference)
        await self._db.run(remember_upload, send.bot, sha256, upload)
        return upload


def words(send: Due) -> Message | None:
    """What is to be said; None if there is nothing to say any more.

    A welcome whose campaign has moved to another bot since the start is answered like a start that came after the move.
    """
    language = Language(send.language or Language.EN)
    if send.kind == SendKind.NOTICE:
        if send.notice is None or send.owner != send.subscriber:
            return None
        return plain(notices.text(NoticeKind(send.notice), send.params or {}, language))
    if send.code is None or send.campaign_status == CampaignStatus.DELETED:
        return None
    if _welcomes(send):
        message = welcome(
            send.welcome or "", button_text=send.button_text or "", button_url=send.button_url or "", values=macro_values(send)
        )
        return message if message.text.text or send.media_sha256 else None
    if not (send.holder_connected and send.answers_moved and send.holder_username):
        return None
    return moved(build(send.holder_username, send.code, send.click), language)


def macro_values(send: Due) -> dict[str, str]:
    """The macros of a welcome's button. The lead that a start made waits, unless more has happened since."""
    return postbacks.values(
        click=send.click,
        status=LeadStatus(send.lead_status or LeadStatus.WAIT),
        campaign=send.code or "",
        user=send.account or 0,
        lead=send.lead or 0,
        subscriber=send.subscriber,
        username=send.username,
        chat=send.chat or 0,
        at=send.at,
    )


def shows_media(send: Due) -> bool:
    """Whether a photo or video belongs to it."""
    return _welcomes(send) and send.media_sha256 is not None


def _welcomes(send: Due) -> bool:
    return send.kind == SendKind.WELCOME and send.holder == send.bot


# Telegram's words


def request(send: Due, message: Message, upload: Upload | None, *, mentions: bool = True) -> Any:
    """The request that Telegram carries out once for its random id, however often it comes."""
    entities = [made for entity in message.text.entities if (made := entity_of(entity, mentions=mentions)) is not None]
    button = message.button and types.KeyboardInlineButton(message.button.text, types.InlineButtonTypeUrl(message.button.url))
    common = {
        "peer": types.InputPeerUser(send.subscriber, send.access_hash),
        "message": message.text.text,
        "random_id": send.random_id,
        "entities": entities or None,
        "reply_markup": types.ReplyInlineMarkup([types.KeyboardInlineButtonRow([button])]) if button else None,
    }
    if upload is None:
        return functions.messages.SendMessageRequest(no_webpage=True, **common)
    if send.media_type == MediaType.PHOTO:
        named = types.InputMediaPhoto(types.InputPhoto(upload.file_id, upload.access_hash, upload.reference))
    else:
        named = types.InputMediaDocument(types.InputDocument(upload.file_id, upload.access_hash, upload.reference))
    return functions.messages.SendMediaRequest(media=named, **common)


_MENTION: Final = "tg://user?id="


def entity_of(entity: Entity, *, mentions: bool) -> Any | None:
    """An entity as Telegram knows it. A link to a person is a mention, of whom the bot need not have an access hash."""
    place = (entity.offset, entity.length)
    match entity.kind:
        case Kind.BOLD:
            return types.MessageEntityBold(*place)
        case Kind.ITALIC:
            return types.MessageEntityItalic(*place)
        case Kind.CODE:
            return types.MessageEntityCode(*place)
        case Kind.PRE:
            return types.MessageEntityPre(*place, entity.language)
        case Kind.LINK:
            person = entity.url.removeprefix(_MENTION) if entity.url.startswith(_MENTION) else ""
            if not (person.isascii() and person.isdecimal()):
                return types.MessageEntityTextUrl(*place, entity.url)
            return types.InputMessageEntityMentionName(*place, types.InputUser(int(person), 0)) if mentions else None


def uploaded(send: Due, file: Any, name: str) -> Any:
    """What has just been uploaded, as what it is to be shown. Telegram reads a video's size and length by itself."""
    if send.media_type == MediaType.PHOTO:
        return types.InputMediaUploadedPhoto(file)
    shape = types.DocumentAttributeVideo(duration=0, w=0, h=0, supports_streaming=True)
    # Telegram makes a silent video an animation unless it is told not to.
    return types.InputMediaUploadedDocument(file, "video/mp4", [shape, types.DocumentAttributeFilename(name)], nosound_video=True)


async def ask(client: Any, wanted: Any) -> Any:
    """Telegram's answer.

    Not by calling the client, which sleeps two seconds over errors of the server, such as that of a random id it has had.

    Raises:
        telethon.errors.RPCError: the refusal.
        OSError: no connection, or no answer in time.
    """
    return await within(client._sender.send(wanted), ANSWER_S)  # noqa: SLF001


async def within(work: Awaitable[T], seconds: float) -> T:
    """Its result. A client that disconnects cancels what it was asked; that is not our own end.

    Raises:
        OSError: cancelled, or too slow; and whatever it raises.
    """
    future = asyncio.ensure_future(work)
    try:
        await asyncio.wait([future], timeout=seconds)
        if future.cancelled():
            raise ConnectionError("disconnected")
        if not future.done():
            raise TimeoutError("no answer")
        return future.result()
    finally:
        future.cancel()


def judge(send: Due, error: Exception) -> Outcome:
    """What an error means for a message: who cannot be reached never will be, who floods pauses, all that may pass is tried again."""
    verdict, wait_s = Verdict.LATER, min(BACKOFF_S * 2 ** min(send.attempts, DOUBLINGS_MAX), BACKOFF_S_MAX)
    match error:
        case errors.FloodWaitError() | errors.FloodPremiumWaitError():
            verdict, wait_s = Verdict.PAUSED, max(error.seconds, 1)
        case errors.SlowModeWaitError():
            wait_s = max(error.seconds, 1)
        case errors.FloodError() | errors.PeerFloodError():
            verdict, wait_s = Verdict.PAUSED, FLOOD_S
        case _ if isinstance(error, _NOBODY):
            verdict = Verdict.BLOCKED
        case errors.BadRequestError() | errors.ForbiddenError() if not isinstance(error, _MOMENTARY):
            verdict = Verdict.REFUSED
        case errors.RPCError() | OSError() | EOFError():
            pass
        case _:
            log.error("send_failed", bot=send.bot, kind=send.kind, campaign=send.code, exc_info=error)
    return Outcome(send, verdict, wait_s, str(error.message) if isinstance(error, errors.RPCError) else type(error).__name__)
