"""What notices say, in both languages."""

import re
import string
from collections.abc import Mapping
from itertools import product

import pytest

from shared.domain import notices
from shared.domain.notices import Language, NoticeKind
from shared.domain.transfers import Kind

FIELDS = {"title", "campaigns", "leads", "other", "own", "global", "chat"}
TRANSFERS = (NoticeKind.TRANSFER_SENT, NoticeKind.TRANSFER_RECEIVED)


def facts(**changed: str | int) -> dict[str, str | int]:
    usual: dict[str, str | int] = {"object": "bot", "title": "@some_bot", "campaigns": 2, "leads": 7, "keep": 1, "own": 0, "global": 0}
    return {**usual, "other": "Ben", **changed}


def placeholders(sentence: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(sentence) if name}


def test_both_languages_say_the_same_things() -> None:
    english, russian = notices._SENTENCES[Language.EN], notices._SENTENCES[Language.RU]
    assert set(notices._SENTENCES) == set(Language)
    assert english.keys() == russian.keys()
    for key in english:
        assert placeholders(english[key]) == placeholders(russian[key]) <= FIELDS, key


def test_each_language_is_written_in_its_letters() -> None:
    for key, sentence in notices._SENTENCES[Language.EN].items():
        assert sentence.isascii(), key
    for key, sentence in notices._SENTENCES[Language.RU].items():
        assert re.search("[а-я]", sentence), key


class Recorder(dict[str, str]):
    """Sentences that note which of them were asked for."""

    def __init__(self, sentences: Mapping[str, str], used: set[str]) -> None:
        super().__init__(sentences)
        self._used = used

    def __getitem__(self, key: str) -> str:
        self._used.add(key)
        return super().__getitem__(key)


@pytest.mark.parametrize("language", Language)
def test_every_sentence_is_said_on_some_occasion(language: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    used: set[str] = set()
    monkeypatch.setitem(notices._SENTENCES, language, Recorder(notices._SENTENCES[language], used))
    for kind in set(NoticeKind) - set(TRANSFERS):
        assert notices.text(kind, {"title": "@some_bot", "chat": "Chat"}, language).endswith(".")
    for kind, thing, keep, own, shared in product(TRANSFERS, Kind, (0, 1), (0, 3), (0, 4)):
        said = notices.text(kind, facts(object=thing.value, keep=keep, own=own, **{"global": shared}), language)
        assert "{" not in said
        assert said.endswith(".")
        assert "@some_bot" in said
        assert "Ben" in said
        assert ("3" in said) == bool(own)
        assert ("4" in said) == bool(shared)
        assert "7" in said
    assert used == set(notices._SENTENCES[language])


@pytest.mark.parametrize("language", Language)
def test_only_the_recipient_of_a_bot_is_told_to_revoke_its_token(language: Language) -> None:
    warning = notices._SENTENCES[language]["token"]
    told = [(kind, thing) for kind, thing in product(TRANSFERS, Kind) if warning in notices.text(kind, facts(object=thing.value), language)]
    assert told == [(NoticeKind.TRANSFER_RECEIVED, Kind.BOT)]


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("kind", TRANSFERS)
def test_both_sides_are_told_that_a_campaigns_link_changed_and_a_bots_did_not(kind: NoticeKind, language: Language) -> None:
    warning = notices._SENTENCES[language]["link"]
    assert warning in notices.text(kind, facts(object="camp"), language)
    assert warning not in notices.text(kind, facts(object="bot"), language)


@pytest.mark.parametrize("language", Language)
@pytest.mark.parametrize("kind", TRANSFERS)
def test_both_sides_are_told_what_became_of_the_leads(kind: NoticeKind, language: Language) -> None:
    assert notices.text(kind, facts(keep=1), language) != notices.text(kind, facts(keep=0), language)


@pytest.mark.parametrize("language", Language)
def test_an_owner_is_told_which_bot_lost_its_rights_and_where(language: Language) -> None:
    said = notices.text(NoticeKind.BOT_ADMIN_LOST, {"title": "@some_bot", "chat": "My chat"}, language)
    assert "@some_bot" in said
    assert "My chat" in said
    assert "@some_bot" in notices.text(NoticeKind.BOT_TOKEN_REVOKED, {"title": "@some_bot"}, language)


def test_braces_in_a_name_are_only_text() -> None:
    said = notices.text(NoticeKind.TRANSFER_SENT, facts(other="{leads} {0} {other.__class__} %s"), Language.EN)
    assert "{leads} {0} {other.__class__} %s" in said
