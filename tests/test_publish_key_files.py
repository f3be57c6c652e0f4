"""Several publish keys, each for its own channels, in a file that may change while the server runs."""

import pytest

from sse_fast.access.access import Access
from sse_fast.access.grants import Grants
from sse_fast.access.patterns import Patterns
from sse_fast.access.publish_keys import BadPublishKeys, PublishKeys
from sse_fast.access.publishers import Publishers
from sse_fast.errors import Unauthorized, WrongKey

FILE = b"""
[shop]
key = ["0123456789abcdef-old", "0123456789abcdef-new"]
publish = ["orders:**", "stock:*"]

[monitor]
key = "fedcba9876543210-seen"
operations = true
subscribe = ["$stats"]
until = 2031-01-01T00:00:00Z
"""
ENDS = 1924992000.0


def test_each_key_of_a_file_is_for_its_own_channels() -> None:
    keys = PublishKeys.parse(FILE)
    shop = Grants(publish=Patterns.of(["orders:**", "stock:*"]), credential="key:shop")
    assert keys.find("0123456789abcdef-old") == keys.find("0123456789abcdef-new") == shop
    monitor = Grants(Patterns.of(["$stats"]), operations=True, until=ENDS, credential="key:monitor")
    assert keys.find("fedcba9876543210-seen") == monitor
    assert keys.find("fedcba9876543210") is None
    assert keys.names == ("key:monitor", "key:shop")


def test_the_one_key_stands_beside_those_of_a_file() -> None:
    access = Access(publishers=Publishers("s3cret", keys=PublishKeys.parse(FILE)))
    assert publishing(access, "s3cret").publish.everything
    assert publishing(access, "0123456789abcdef-old").credential == "key:shop"
    for wrong in ("0123456789abcdef", "", "s3cret0"):
        with pytest.raises(Unauthorized, match="not a publish key of this server"):
            publishing(access, wrong)


def publishing(access: Access, key: str | None, now: float = 0.0) -> Grants:
    """What a request to publish gets."""
    return access.publishing({b"authorization": f"Bearer {key}".encode()} if key is not None else {}, b"", now)


def listening(access: Access, key: str, now: float = 0.0) -> Grants:
    return access.grants_of({b"authorization": f"Bearer {key}".encode()}, b"", now)


def test_a_key_s_holder_may_listen_and_look_where_the_file_says_so() -> None:
    access = Access(publishers=Publishers(keys=PublishKeys.parse(FILE)))
    assert listening(access, "fedcba9876543210-seen").operations
    basic = {b"authorization": b"Basic eA=="}
    assert access.grants_of(basic, b"", 0.0) == access.grants_of({}, b"", 0.0) == access.everybody


def test_a_key_that_is_none_or_has_ended_makes_nobody_everybody() -> None:
    access = Access(publishers=Publishers(keys=PublishKeys.parse(FILE)))
    for key, now in (("somebody else's", 0.0), ("", 0.0), ("fedcba9876543210-seen", ENDS)):
        with pytest.raises(WrongKey):
            listening(access, key, now)


def test_what_the_webhook_gets_to_see_may_be_no_key_and_is_its_to_judge() -> None:
    access = Access(publishers=Publishers(keys=PublishKeys.parse(FILE)), hook=(b"cookie", b"authorization"))
    given = {b"authorization": b"Bearer a-session"}
    assert access.grants_of(given, b"", 0.0, hooked=True) == access.everybody
    right = {b"authorization": b"Bearer fedcba9876543210-seen"}
    assert access.grants_of(right, b"", 0.0, hooked=True).operations
    with pytest.raises(WrongKey):
        access.grants_of(given, b"", 0.0)


def test_a_file_without_keys_lets_nobody_publish() -> None:
    access = Access(publishers=Publishers(keys=PublishKeys.parse(b"")))
    for key in (None, "0123456789abcdef"):
        with pytest.raises(Unauthorized):
            publishing(access, key)


def test_a_key_ends_when_the_file_says_so() -> None:
    access = Access(
        publishers=Publishers(keys=PublishKeys.parse(FILE.replace(b"operations", b'publish = ["a"]\noperations')))
    )
    assert publishing(access, "fedcba9876543210-seen", ENDS - 1).publish.matches("a")
    with pytest.raises(Unauthorized, match="not a publish key"):
        publishing(access, "fedcba9876543210-seen", ENDS)


def test_keys_are_replaced_while_the_server_runs() -> None:
    publishers = Publishers(keys=PublishKeys.parse(FILE))
    publishers.use(PublishKeys.parse(b'[shop]\nkey = "another-0123456789"\npublish = ["**"]'))
    assert publishers.holder("0123456789abcdef-old", 0) is None
    assert publishers.holder("another-0123456789", 0) is not None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('key = "0123456789abcdef"', "outside of any key's table"),
        ('[a b]\nkey = "0123456789abcdef"', "not valid TOML"),
        ('["a b"]\nkey = "0123456789abcdef"', "no name for a key"),
        ('[a]\npublish = ["**"]', "needs a key"),
        ('[a]\nkey = "short"\npublish = ["**"]', "16 to 512"),
        ('[a]\nkey = []\npublish = ["**"]', "needs a key"),
        ('[a]\nkey = "0123456789 bcdef"\npublish = ["**"]', "16 to 512"),
        ('[a]\nkey = "0123456789abcdef"', "says nothing that its holder may"),
        ('[a]\nkey = "0123456789abcdef"\npublish = "**"', "a list of patterns"),
        ('[a]\nkey = "0123456789abcdef"\npublish = ["or*"]', r"\[a\] publish: .*'\*' within a segment"),
        ('[a]\nkey = "0123456789abcdef"\nchannels = ["**"]', "has no 'channels'"),
        ('[a]\nkey = "0123456789abcdef"\noperations = 1', "true or false"),
        ('[a]\nkey = "0123456789abcdef"\npublish = ["**"]\nuntil = 2031-01-01T00:00:00', "with its offset"),
        (
            '[a]\nkey = "0123456789abcdef"\npublish = ["**"]\n[b]\nkey = "0123456789abcdef"\npublish = ["**"]',
            "each has",
        ),
        ('[a]\nkey = "0123456789abcdef', "not valid TOML"),
        ("\udcff", "not UTF-8"),
        ("#" * 1_100_000, "at most"),
    ],
)
def test_a_file_that_is_none_says_why_and_shows_no_key(text: str, why: str) -> None:
    with pytest.raises(BadPublishKeys, match=why) as bad:
        PublishKeys.parse(text.encode("utf-8", "surrogateescape"))
    assert "456789" not in str(bad.value)
