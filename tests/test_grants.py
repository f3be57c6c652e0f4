"""What somebody may, as a value."""

from sse_fast.access.grants import NO_GRANTS, OPEN, Grants
from sse_fast.access.patterns import EVERYTHING, Patterns


def test_who_has_a_credential_may_also_what_everybody_may() -> None:
    everybody = Grants(Patterns.of(["news"]), Patterns.of(["chat:*"]))
    own = Grants(Patterns.of(["user:42:**"]), user="42", until=7.0, credential="1a2b")
    both = own.beside(everybody)
    assert [name for name in ("news", "user:42:inbox", "user:43:inbox") if both.subscribe.matches(name)] == [
        "news",
        "user:42:inbox",
    ]
    assert both.publish == Patterns.of(["chat:*"])
    assert (both.user, both.until, both.credential) == ("42", 7.0, "1a2b")


def test_about_history_the_credential_has_the_word() -> None:
    assert not Grants(history=False).beside(OPEN).history
    assert Grants(history=True).beside(Grants(history=False)).history


def test_open_is_everything_and_no_look_into_the_server() -> None:
    assert Grants(EVERYTHING, EVERYTHING) == OPEN
    assert not OPEN.operations
    assert Grants() == NO_GRANTS
