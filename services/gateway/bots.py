"""bots/*: the account's bots."""

import falcon.asgi
from sqlalchemy import Connection

from services.gateway.answers import ApiError, Code, Reply, date
from services.gateway.endpoints import Gateway
from services.gateway.params import Flag, Id, Page, Params, Token, object_id
from shared.db import bots
from shared.db.accounts import Caller
from shared.domain.bots import BAD_TOKEN, is_token
from shared.domain.campaigns import bot_state
from shared.messages import Outcome


class NewBot(Params):
    """A bot by its token from BotFather."""

    token: Token


class BotId(Params):
    """One bot."""

    id: Id = object_id("bot")


class ChatsOf(Page):
    """A page of one bot's chats."""

    id: Id = object_id("bot")


class Moved(Params):
    """Whether a bot answers starts of campaigns that have moved to another."""

    id: Id = object_id("bot")
    answer: Flag


def list_bots(tx: Connection, caller: Caller, page: Page) -> Reply:
    """The account's bots, disconnected ones too."""
    rows, total = bots.get_bots(tx, caller.id, limit=page.limit, offset=page.offset)
    data = []
    for row in rows:
        status, reason = bot_state(connected=row["disconnected"] is None, revoked=row["token_revoked"], lacks_admin=row["lacks_admin"])
        data.append(
            {
                "id": row["id"],
                "tg": row["tg_id"],
                "username": row["username"],
                "name": row["name"],
                "status": status,
                "reason": reason,
                "created": date(row["created"]),
            }
        )
    return Reply(data, total)


async def add_bot(
    gateway: Gateway, caller: Caller, wanted: NewBot, _request: falcon.asgi.Request, _response: falcon.asgi.Response
) -> Reply:
    """Connect a bot, or give one that is connected here its new token."""
    if not is_token(wanted.token):
        raise ApiError(BAD_TOKEN.reason, BAD_TOKEN.message, field="token")
    added = await gateway.connections.add(caller.id, wanted.token)
    if isinstance(added, Outcome):
        raise ApiError(added.reason, added.message, field=added.field)
    return Reply({"id": added.id, "username": added.username, "name": added.name})


def list_chats(tx: Connection, caller: Caller, wanted: ChatsOf) -> Reply:
    """The chats where the bot is an administrator and has no campaign yet."""
    found = bots.get_free_chats(tx, caller.id, wanted.id, limit=wanted.limit, offset=wanted.offset)
    if found is None:
        raise _unknown()
    rows, total = found
    return Reply([{"id": row["tg_id"], "title": row["title"], "type": row["type"]} for row in rows], total)


def delete_bot(tx: Connection, caller: Caller, wanted: BotId) -> Reply:
    """Disconnect a bot. Its campaigns stay as they are, and so does its history."""
    if not bots.disconnect(tx, caller.id, wanted.id):
        raise _unknown()
    return Reply()


def answer_moved(tx: Connection, caller: Caller, wanted: Moved) -> Reply:
    """Choose whether the bot answers starts with codes that have moved to another bot."""
    if not bots.set_answers_moved(tx, caller.id, wanted.id, answer=bool(wanted.answer)):
        raise _unknown()
    return Reply()


def _unknown() -> ApiError:
    return ApiError(Code.NOTFOUND, "You have no connected bot with this id.", field="id")
