"""camp/*: the account's campaigns."""

import secrets
from dataclasses import fields, replace
from typing import Annotated, Any, Final

from pydantic import Field
from sqlalchemy import Connection

from services.gateway.answers import ApiError, Code, Reply, date, invalid
from services.gateway.params import BIGINT_MAX, Id, Page, Params, Whole, object_id
from shared.db import campaigns
from shared.db.accounts import Caller
from shared.db.campaigns import Locked
from shared.db.schema import POSTBACKS
from shared.domain import campaigns as rules
from shared.domain import deeplinks
from shared.domain.campaigns import CODE_ALPHABET, CODE_LENGTH, UNSUB_WINDOW_DEFAULT, UNSUB_WINDOW_MAX, CampaignStatus, Refusal, Settings

#: What an owner can choose, by the names of the API.
SETTINGS: Final = tuple(field.name for field in fields(Settings))

#: Groups, channels and supergroups have negative numbers.
ChatId = Annotated[Whole, Field(ge=-BIGINT_MAX, le=-1)]
Window = Annotated[Whole, Field(ge=0, le=UNSUB_WINDOW_MAX)]


class CampaignId(Params):
    """One campaign."""

    id: Id = object_id("camp")


class _Choices(Params):
    media: str = ""
    button_text: str = ""
    button_url: str = ""
    pb_wait: str = ""
    pb_hold: str = ""
    pb_approve: str = ""
    pb_cancel: str = ""
    pb_trash: str = ""
    unsub_window: Window = UNSUB_WINDOW_DEFAULT

    def given(self) -> dict[str, Any]:
        """The settings that the request names."""
        return {name: getattr(self, name) for name in SETTINGS if name in self.model_fields_set}


class NewCampaign(_Choices):
    """A campaign to make: where it runs, and what its owner chooses."""

    bot: Id
    chat: ChatId
    welcome: str


class Edit(_Choices):
    """What is to be different about a campaign. Its bot and chat can't be."""

    id: Id = object_id("camp")
    bot: Id = 0
    chat: ChatId = 0
    welcome: str = ""


def list_campaigns(tx: Connection, caller: Caller, page: Page) -> Reply:
    """The account's campaigns that are not deleted."""
    rows, total = campaigns.get_campaigns(tx, caller.id, limit=page.limit, offset=page.offset)
    return Reply([_summary(row) for row in rows], total)


def get_campaign(tx: Connection, caller: Caller, wanted: CampaignId) -> Reply:
    """One campaign with all its settings."""
    row = _get(tx, caller, wanted)
    return Reply(
        {**_summary(row), **{name: row[name] for name in ("welcome", "media", "button_text", "button_url", *POSTBACKS, "unsub_window")}}
    )


def get_link(tx: Connection, caller: Caller, wanted: CampaignId) -> Reply:
    """The link to advertise, with `{click}` where the tracker puts its own."""
    row = _get(tx, caller, wanted)
    return Reply({"link": deeplinks.template(row["bot_username"], row["code"])})


def add_campaign(tx: Connection, caller: Caller, wanted: NewCampaign) -> Reply:
    """Make a campaign, active from now on.

    1. See that the settings are well.
    2. Lock account and bot, and see whether there is room.
    3. Write.
    """
    _refuse(rules.mistake(wanted.given()))
    settings = _agreed(replace(Settings(), **wanted.given()))
    place = campaigns.lock_place(tx, caller.id, wanted.bot, wanted.chat)
    if place is None:
        raise ApiError(Code.NOTFOUND, "You have no bot with this id.", field="bot")
    media_type = _media_type(tx, caller, settings)
    _refuse(rules.may_add(place.room))
    made, code = campaigns.add(tx, caller.id, place, settings, media_type, _new_code)
    return Reply({"id": made, "code": code})


def edit_campaign(tx: Connection, caller: Caller, wanted: Edit) -> Reply:
    """Change what is named, and nothing else."""
    _refuse(rules.mistake(wanted.given()))
    campaign = _lock(tx, caller, wanted.id)
    if wanted.bot not in {0, campaign.bot}:
        raise invalid("bot", "A campaign's bot can't be changed.")
    if wanted.chat not in {0, *campaign.chats}:
        raise invalid("chat", "A campaign's chat can't be changed.")
    settings = _agreed(replace(campaign.settings, **wanted.given()), before=campaign.settings)
    campaigns.set_settings(tx, campaign, settings, _media_type(tx, caller, settings))
    return Reply()


def pause_campaign(tx: Connection, caller: Caller, wanted: CampaignId) -> Reply:
    """Pause a campaign; one that is paused stays so since then."""
    campaign = _lock(tx, caller, wanted.id)
    if campaign.status is CampaignStatus.ACTIVE:
        campaigns.pause(tx, campaign)
    return Reply()


def resume_campaign(tx: Connection, caller: Caller, wanted: CampaignId) -> Reply:
    """Let a paused campaign go on, if there is a slot for it; one that is active stays so."""
    campaign = _lock(tx, caller, wanted.id)
    if campaign.status is CampaignStatus.PAUSED:
        _refuse(rules.may_resume(campaign.plan, active=campaign.active, connected=campaign.connected))
        campaigns.resume(tx, campaign)
    return Reply()


def delete_campaign(tx: Connection, caller: Caller, wanted: CampaignId) -> Reply:
    """Delete a campaign; its code never works again."""
    campaign = campaigns.lock(tx, caller.id, wanted.id)
    if campaign is None:
        raise _unknown()
    if campaign.status is not CampaignStatus.DELETED:
        campaigns.delete(tx, campaign)
    return Reply()


def _get(tx: Connection, caller: Caller, wanted: CampaignId) -> dict[str, Any]:
    row = campaigns.get_campaign(tx, caller.id, wanted.id)
    if row is None:
        raise _unknown()
    return row


def _lock(tx: Connection, caller: Caller, campaign_id: int) -> Locked:
    """The caller's campaign, locked, unless it is deleted."""
    campaign = campaigns.lock(tx, caller.id, campaign_id)
    if campaign is None or campaign.status is CampaignStatus.DELETED:
        raise _unknown()
    return campaign


def _agreed(settings: Settings, before: Settings | None = None) -> Settings:
    """The settings, if they go together; what was wrong before, as with a campaign that never had a welcome message, may stay so."""
    known = rules.disagreements(before) if before else []
    _refuse(next((found for found in rules.disagreements(settings) if found not in known), None))
    return settings


def _media_type(tx: Connection, caller: Caller, settings: Settings) -> int:
    """What the settings' media is, if it is the caller's to use; 0 for none."""
    media_type = campaigns.find_media(tx, caller.id, settings.media) if settings.media else 0
    if media_type is None:
        raise invalid("media", "You have no media with this reference.")
    return media_type


def _refuse(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise ApiError(refusal.reason, refusal.message, field=refusal.field)


def _unknown() -> ApiError:
    return ApiError(Code.NOTFOUND, "You have no campaign with this id.", field="id")


def _new_code() -> str:
    return "".join(secrets.choice(CODE_ALPHABET) for _ in range(CODE_LENGTH))


def _summary(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["id"],
        "code": row["code"],
        "bot": row["bot_id"],
        "bot_username": row["bot_username"],
        "chat": row["chat"],
        "chat_title": row["chat_title"],
        "status": row["status"],
        "warning": int(row["warning"]),
        "starts": row["starts"],
        "confirms": row["confirms"],
        "unsubs": row["unsubs"],
        "created": date(row["created"]),
    }
