"""transfer/*: hand a bot or a campaign to another account, see beforehand what would happen, and what became of it."""

import secrets
from collections.abc import Sequence
from typing import Annotated, Any, Final
from uuid import UUID

import falcon.asgi
import uuid_utils.compat as uuids
from pydantic import Field
from sqlalchemy import Connection

from services.gateway.answers import ApiError, Code, Reply, date, invalid
from services.gateway.endpoints import Gateway
from services.gateway.intake import Pending
from services.gateway.params import Flag, Id, Page, Params, Token
from shared.db import accounts, history, transfers
from shared.db.accounts import Caller
from shared.db.commands import NewCommand
from shared.db.connect import raw
from shared.domain import keys, plans
from shared.domain.campaigns import CampaignStatus
from shared.domain.transfers import Campaign, Facts, Kind, Reason, Refusal, Request, moving, refusals
from shared.messages import Outcome, State

#: Carries the id of the transfer, for transfer/status, in every answer to a transfer that was accepted.
TRANSFER_HEADER: Final = "Gatepost-Transfer"
KEY_HEADER: Final = "Idempotency-Key"
KEY_LENGTH_MAX: Final = 255


class TransferBot(Params):
    """A bot, its recipient, and what becomes of the leads."""

    bot: Id
    token: Token
    leads: Flag


class TransferCampaign(Params):
    """A campaign, its recipient, and what becomes of the leads."""

    camp: Id
    token: Token
    leads: Flag


class Preview(Params):
    """A transfer to look at: exactly one of `bot` and `camp`."""

    bot: Id | None = None
    camp: Id | None = None
    token: Token
    leads: Flag = 1


class Resolve(Params):
    """A recipient."""

    token: Token


class TransferId(Params):
    """One transfer."""

    transfer: Annotated[UUID, Field(strict=False)]


def get_token(tx: Connection, caller: Caller, _: Params) -> Reply:
    """The account's own transfer token."""
    return Reply({"token": accounts.get_transfer_token(tx, caller.id)})


def renew_token(tx: Connection, caller: Caller, _: Params) -> Reply:
    """A new transfer token; whoever holds the old one can no longer send here, also what is on its way."""
    token = keys.new_transfer_token(secrets.choice)
    accounts.set_transfer_token(tx, caller.id, token)
    return Reply({"token": token})


def resolve(tx: Connection, _: Caller, wanted: Resolve) -> Reply:
    """Whose token this is, and whether they could receive."""
    recipient = accounts.find_recipient(tx, wanted.token)
    if recipient is None:
        refusal = Refusal(Reason.NOTFOUND, "token")
        raise ApiError(refusal.reason, refusal.message, field=refusal.field)
    return Reply(
        {
            "name": recipient.name,
            "paid": plans.is_paid(recipient.plan, recipient.paid_until, recipient.now),
            "slots": plans.free_slots(recipient.plan, active=recipient.active),
        }
    )


async def transfer_bot(
    gateway: Gateway, caller: Caller, wanted: TransferBot, request: falcon.asgi.Request, response: falcon.asgi.Response
) -> Reply:
    """Hand a bot with its campaigns to the owner of the token."""
    return await _submit(gateway, _command(caller, Kind.BOT, wanted.bot, wanted, request), response)


async def transfer_campaign(
    gateway: Gateway, caller: Caller, wanted: TransferCampaign, request: falcon.asgi.Request, response: falcon.asgi.Response
) -> Reply:
    """Hand a campaign to the owner of the token."""
    return await _submit(gateway, _command(caller, Kind.CAMPAIGN, wanted.camp, wanted, request), response)


def _command(
    caller: Caller, kind: Kind, object_id: int, wanted: TransferBot | TransferCampaign, request: falcon.asgi.Request
) -> NewCommand:
    return NewCommand(
        id=uuids.uuid7(),
        kind=kind,
        account=caller.id,
        object_id=object_id,
        token=wanted.token,
        keep_leads=bool(wanted.leads),
        idempotency_key=_idempotency_key(request),
    )


async def _submit(gateway: Gateway, command: NewCommand, response: falcon.asgi.Response) -> Reply:
    transfer, outcome = await gateway.intake.submit(command)
    response.set_header(TRANSFER_HEADER, str(transfer))
    if isinstance(outcome, Pending):
        return Reply({"transfer": str(transfer)}, status="pending")
    if outcome.state is State.REFUSED:
        raise _refused(outcome)
    return Reply()


def _refused(outcome: Outcome) -> ApiError:
    return ApiError(outcome.reason, outcome.message, field=outcome.field)


def _idempotency_key(request: falcon.asgi.Request) -> str | None:
    keys_given = [value for name, value in request.scope["headers"] if name == KEY_HEADER.lower().encode()]
    if len(keys_given) > 1:
        raise invalid(KEY_HEADER, "The header is given more than once.")
    key = request.get_header(KEY_HEADER)
    if key is None:
        return None
    if not 1 <= len(key) <= KEY_LENGTH_MAX or any(not "!" <= letter <= "~" for letter in key):
        raise invalid(KEY_HEADER, f"The key must be 1 to {KEY_LENGTH_MAX} visible ASCII characters.")
    return key


def preview(tx: Connection, caller: Caller, wanted: Preview) -> Reply:
    """What the transfer would move and every reason that would refuse it, by the ledger's own checks on the state of now."""
    if (wanted.bot is None) == (wanted.camp is None):
        raise invalid("bot" if wanted.bot is None else "camp", "Name either a bot or a campaign.")
    request = Request(
        id=uuids.uuid7(),
        kind=Kind.CAMPAIGN if wanted.bot is None else Kind.BOT,
        sender=caller.id,
        object_id=wanted.bot or wanted.camp or 0,
        token=wanted.token,
        keep_leads=bool(wanted.leads),
        recipient=transfers.find_recipient(raw(tx), wanted.token),
    )
    facts = transfers.get_facts(raw(tx), request)
    reasons, campaigns = refusals(facts, request), moving(facts, request)
    if campaigns is None:
        raise ApiError(reasons[0].reason, reasons[0].message, field=reasons[0].field)
    known = reasons[:1] != [Refusal(Reason.NOTFOUND, "token")]
    return Reply(
        {
            "kind": request.kind,
            "recipient": facts.accounts[request.recipient].name if known and request.recipient else "",
            "moves": _moves(facts, request, campaigns),
            "warnings": _warnings(request, campaigns),
            "reasons": [{"error": r.reason, "field": r.field, "message": r.message} for r in reasons],
        }
    )


def _moves(facts: Facts, request: Request, campaigns: Sequence[Campaign]) -> dict[str, Any]:
    return {
        "bot": f"@{facts.bots[request.object_id].username}" if request.kind is Kind.BOT else "",
        "campaigns": [
            {
                "id": c.id,
                "code": c.code,
                "chat_title": c.chat_title,
                "status": c.status,
                "templates": "own" if c.own_templates else "global",
                "leads": c.leads,
            }
            for c in campaigns
        ],
        "leads": sum(c.leads for c in campaigns),
        "keep": int(request.keep_leads),
    }


def _warnings(request: Request, campaigns: Sequence[Campaign]) -> list[dict[str, str]]:
    own = [c.code for c in campaigns if c.own_templates]
    shared = [c.code for c in campaigns if not c.own_templates]
    paused = [c.code for c in campaigns if c.status is CampaignStatus.PAUSED]
    texts = {
        "leads": "" if request.keep_leads else "All leads, statistics and journal entries of what moves are deleted for good.",
        "own": f"Goes on calling your tracker until the new owner edits it: {', '.join(own)}." if own else "",
        "global": f"Uses the new owner's global postback templates from then on: {', '.join(shared)}." if shared else "",
        "paused": f"Paused, and takes one of the recipient's slots all the same: {', '.join(paused)}." if paused else "",
        "link": "The campaign moves to another bot, so its deep link changes and ads must be changed."
        if request.kind is Kind.CAMPAIGN
        else "",
        "token": "You still know the bot's token; the recipient is told to revoke it." if request.kind is Kind.BOT else "",
    }
    return [{"kind": kind, "message": message} for kind, message in texts.items() if message]


def status(tx: Connection, caller: Caller, wanted: TransferId) -> Reply:
    """What became of a transfer of which the caller is a side."""
    entry = history.get_entry(tx, caller.id, wanted.transfer)
    if entry is None:
        raise ApiError(Code.NOTFOUND, "You have no transfer with this id.", field="transfer")
    return Reply(_entry(entry))


def list_transfers(tx: Connection, caller: Caller, page: Page) -> Reply:
    """The caller's transfers in both directions, newest first."""
    entries, total = history.get_entries(tx, caller.id, limit=page.limit, offset=page.offset)
    return Reply([_entry(entry) for entry in entries], total)


def _entry(entry: history.Entry) -> dict[str, Any]:
    return {
        "transfer": str(entry.id),
        "kind": entry.kind,
        "object": entry.object_id,
        "title": entry.title or "",
        "direction": entry.direction,
        "other": entry.other or "",
        "leads": int(entry.keep_leads),
        "outcome": State.PENDING if entry.state == State.PARKED else entry.state,
        "reason": entry.reason,
        "field": entry.field,
        "campaigns_moved": entry.campaigns or 0,
        "leads_moved": entry.leads or 0,
        "created": date(entry.created),
        "finished": date(entry.finished),
    }
