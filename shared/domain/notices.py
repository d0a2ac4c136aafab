"""What notices tell an account's owner, in the owner's language."""

from collections.abc import Mapping
from enum import StrEnum

from shared.domain.transfers import Kind, Move


class NoticeKind(StrEnum):
    """What happened."""

    TRANSFER_SENT = "transfer_sent"
    TRANSFER_RECEIVED = "transfer_received"
    BOT_ADMIN_LOST = "bot_admin_lost"  # title, chat
    BOT_TOKEN_REVOKED = "bot_token_revoked"  # noqa: S105 - title
    LINKED = "linked"  # nothing: the service bot's own first words


class Language(StrEnum):
    """Languages an owner can choose; part of the public API."""

    EN = "en"
    RU = "ru"


#: The plain facts of a notice, as kept in its row: texts, numbers and flags, never an id, login, token or key of the other side.
Params = Mapping[str, str | int]


def transfer_notices(move: Move) -> tuple[Params, Params]:
    """What the sender and the recipient are told of a transfer."""
    own = sum(before.own_templates for before, _ in move.campaigns)
    common: dict[str, str | int] = {
        "object": move.request.kind.value,
        "title": move.title,
        "campaigns": len(move.campaigns),
        "leads": move.leads,
        "keep": int(move.request.keep_leads),
        "own": own,
        "global": len(move.campaigns) - own,
    }
    return {**common, "other": move.recipient.name}, {**common, "other": move.sender.name}


def text(kind: NoticeKind, params: Params, language: Language) -> str:
    """The notice as its owner reads it: what happened, then what must be known or done about it."""
    return " ".join(_SENTENCES[language][key].format_map(params) for key in _sentences(kind, params))


def _sentences(kind: NoticeKind, params: Params) -> list[str]:
    """The names of what is said on this occasion."""
    match kind:
        case NoticeKind.TRANSFER_SENT | NoticeKind.TRANSFER_RECEIVED:
            keys = [f"{kind}.{params['object']}", "leads.kept" if params["keep"] else "leads.deleted"]
            keys += [f"{kind}.own"] if params["own"] else []
            keys += [f"{kind}.global"] if params["global"] else []
            keys += ["link"] if params["object"] == Kind.CAMPAIGN else []
            keys += ["token"] if params["object"] == Kind.BOT and kind is NoticeKind.TRANSFER_RECEIVED else []
            return keys
        case NoticeKind.BOT_ADMIN_LOST | NoticeKind.BOT_TOKEN_REVOKED | NoticeKind.LINKED:
            return [kind.value]


_SENTENCES: dict[Language, dict[str, str]] = {
    Language.EN: {
        "transfer_sent.bot": "Bot {title} and its campaigns ({campaigns}) now belong to {other}.",
        "transfer_sent.camp": "Campaign {title} now belongs to {other}.",
        "transfer_received.bot": "You received bot {title} with its campaigns ({campaigns}) from {other}.",
        "transfer_received.camp": "You received campaign {title} from {other}.",
        "leads.kept": "Leads moved along: {leads}.",
        "leads.deleted": "Leads deleted: {leads}.",
        "transfer_sent.own": "Campaigns that go on calling your tracker, by their own postback templates, until edited: {own}.",
        "transfer_sent.global": "Campaigns that from now on use the new owner's global postback templates: {global}.",
        "transfer_received.own": (
            "Campaigns with postback templates of their own, which go on calling the previous owner's tracker until you edit them: {own}."
        ),
        "transfer_received.global": "Campaigns that from now on use your global postback templates: {global}.",
        "link": "The campaign moved to another bot, so the deep link changes: ads must be changed to it.",
        "token": (
            "The previous owner still knows this bot's token: revoke it at BotFather and add the new one here to be the only one who does."
        ),
        "bot_admin_lost": "Bot {title} is no longer an administrator of {chat}: joins and leaves there are not seen until it is one again.",
        "bot_token_revoked": "Telegram no longer accepts the token of bot {title}: add its present one from BotFather here.",
        "linked": "From now on notices come here.",
    },
    Language.RU: {
        "transfer_sent.bot": "Бот {title} и его кампании ({campaigns}) теперь принадлежат {other}.",
        "transfer_sent.camp": "Кампания {title} теперь принадлежит {other}.",
        "transfer_received.bot": "Вы получили бота {title} с кампаниями ({campaigns}) от {other}.",
        "transfer_received.camp": "Вы получили кампанию {title} от {other}.",
        "leads.kept": "Лидов передано: {leads}.",
        "leads.deleted": "Лидов удалено: {leads}.",
        "transfer_sent.own": "Кампании со своими шаблонами постбэков продолжат вызывать ваш трекер, пока их не изменят: {own}.",
        "transfer_sent.global": "Кампании, которые теперь используют общие шаблоны постбэков нового владельца: {global}.",
        "transfer_received.own": (
            "Кампании со своими шаблонами постбэков вызывают трекер прежнего владельца, пока вы их не измените: {own}."
        ),
        "transfer_received.global": "Кампании, которые теперь используют ваши общие шаблоны постбэков: {global}.",
        "link": "Кампания перешла к другому боту, её ссылка изменилась: замените её в рекламе.",
        "token": ("Прежний владелец всё ещё знает токен этого бота: отзовите его в BotFather и добавьте новый здесь."),
        "bot_admin_lost": "Бот {title} больше не администратор в {chat}: вступления и выходы там не видны, пока ему не вернут права.",
        "bot_token_revoked": "Telegram больше не принимает токен бота {title}: добавьте здесь новый токен от BotFather.",
        "linked": "Теперь уведомления будут приходить сюда.",
    },
}
