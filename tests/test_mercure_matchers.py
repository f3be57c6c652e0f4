"""Topic matchers: exact, URL patterns, the URI templates of the 0.x hub, and the one that is everything."""

import time

import pytest

from sse_fast.access.matchers import ALL, NO_MATCHERS, Kind, Matcher, Matchers, matchers_of
from sse_fast.errors import InvalidPattern

HUB = "https://hub.example/.well-known/mercure"


def exact(text: str) -> Matcher:
    return Matcher(Kind.EXACT, text, HUB)


def urlpattern(text: str) -> Matcher:
    return Matcher(Kind.URLPATTERN, text, HUB)


def template(text: str) -> Matcher:
    return Matcher(Kind.TEMPLATE, text, HUB)


def test_an_exact_matcher_has_the_topic_of_the_same_bytes_and_no_other() -> None:
    matcher = exact("https://example.com/books/1")
    assert matcher.exact == "https://example.com/books/1"
    assert matcher.matches("https://example.com/books/1")
    assert not matcher.matches("https://EXAMPLE.com/books/1")
    assert not matcher.matches("https://example.com/books/1/")
    assert not exact("caf\u00e9").matches("cafe\u0301")  # nothing is normalized
    assert not exact("/books/1").matches("https://hub.example/books/1")  # nor resolved


@pytest.mark.parametrize("kind", [Kind.EXACT, Kind.URLPATTERN, Kind.TEMPLATE])
def test_an_asterisk_is_every_topic_whichever_kind_is_said(kind: Kind) -> None:
    matcher = Matcher(kind, "*", HUB)
    assert matcher.everything
    assert matcher.exact is None
    assert matcher.matches("https://example.com/books/1")
    assert matcher.matches("not a URL at all")


@pytest.mark.parametrize(
    ("pattern", "topic", "fits"),
    [
        ("https://example.com/books/:id", "https://example.com/books/1", True),
        ("https://example.com/books/:id", "https://example.com/books/1/2", False),
        ("https://example.com/books/:id", "https://EXAMPLE.com/books/1", True),  # hosts know no case
        ("https://example.com/books/:id", "https://example.com/BOOKS/1", False),  # all else does
        ("https://example.com/users/42/*", "https://example.com/users/42/books/1", True),
        ("/books/:id", "https://hub.example/books/1", True),  # both are relative to the hub's URL
        ("https://hub.example/books/:id", "/books/1", True),
        ("/.well-known/mercure/subscriptions/exact/:topic/:subscriber",
         "/.well-known/mercure/subscriptions/exact/https%3A%2F%2Fexample.com%2Ffoo/urn%3Auuid%3A1", True),
        ("https://example.com/books/(\\d+)", "https://example.com/books/12", True),
        ("https://example.com/books/(\\d+)", "https://example.com/books/x", False),
        ("https://example.com/:id", "http://[", False),  # no URL fits no pattern
    ],
)  # fmt: skip
def test_a_url_pattern_fits_as_the_standard_says(pattern: str, topic: str, fits: bool) -> None:
    matcher = urlpattern(pattern)
    assert matcher.exact is None
    assert matcher.matches(topic) is fits


@pytest.mark.parametrize(
    ("text", "topic", "fits"),
    [
        ("https://example.com/books/{id}", "https://example.com/books/1", True),
        ("https://example.com/books/{id}", "https://example.com/books/", True),
        ("https://example.com/books/{id}", "https://example.com/books/a%20b", True),
        ("https://example.com/books/{id}", "https://example.com/books/1/2", False),
        ("https://example.com/books/{id}", "https://example.com/books/a b", False),
        ("https://example.com/books/{id}.jsonld", "https://example.com/books/1.jsonld", True),
        ("https://example.com/{+path}", "https://example.com/a/b?c=d", True),
        ("https://example.com{/a,b}", "https://example.com/1/2", True),
        ("https://example.com{/a,b}", "https://example.com/1/2/3", False),
        ("https://example.com{/list*}", "https://example.com/1/2/3", True),
        ("https://example.com/s{?q,lang}", "https://example.com/s?q=cat&lang=en", True),
        ("https://example.com/s{?q,lang}", "https://example.com/s", True),
        ("https://example.com/s{?q}", "https://example.com/s?q=cat&lang=en", False),
        ("{x,y}", "1024,768", True),
        ("X{.x}", "X.com", True),
        ("{#frag}", "#a/b", True),
        ("{;x,y}", ";x=1;y=2", True),
        ("/.well-known/mercure/subscriptions{/topic}{/subscriber}",
         "/.well-known/mercure/subscriptions/https%3A%2F%2Fexample.com/urn%3Auuid%3A1", True),
    ],
)  # fmt: skip
def test_a_template_has_what_it_may_expand_to(text: str, topic: str, fits: bool) -> None:
    assert template(text).matches(topic) is fits


def test_a_template_is_itself_too_and_what_is_none_is_an_exact_topic() -> None:
    assert template("https://example.com/{id}").matches("https://example.com/{id}")
    for none in ("{", "will-not-match}", "{=x}", "{a b}", "a b{c}", "{x:0}", "{.}", "%zz{x}"):
        assert template(none).exact == none
        assert template(none).matches(none)
    assert template("https://example.com/1").exact == "https://example.com/1"


@pytest.mark.parametrize("text", ["", "a\x00b", "a\nb", "a\x7f", "a\x85", "a\u200bb", "a\u202eb", "\ud800", "x" * 2049])
@pytest.mark.parametrize("kind", [Kind.EXACT, Kind.URLPATTERN, Kind.TEMPLATE])
def test_a_matcher_has_no_control_and_no_format_characters_and_is_bounded(kind: Kind, text: str) -> None:
    with pytest.raises(InvalidPattern):
        Matcher(kind, text, HUB)


@pytest.mark.parametrize("text", ["https://example.com/(", "{", "https://example.com/:a/:a", "https://[/"])
def test_what_is_no_url_pattern_is_told_so(text: str) -> None:
    with pytest.raises(InvalidPattern, match="is no URL pattern"):
        urlpattern(text)


@pytest.mark.parametrize(
    "text",
    [
        "https://example.com/" + "*a" * 40,
        "https://example.com/" + "/".join(f":a{number}" for number in range(40)),
        r"https://example.com/(\w{100})",
        "https://example.com/((?:a{1000}){1000})",
        "https://example.com/(a{0,501})",
    ],
)
def test_a_url_pattern_that_costs_too_much_is_none(text: str) -> None:
    with pytest.raises(InvalidPattern, match="more than is tried here"):
        urlpattern(text)


def test_no_matcher_takes_long_whatever_it_is_tried_on() -> None:
    hostile = [
        urlpattern("https://example.com/((?:a+)+)b"),
        urlpattern("https://example.com/" + "*a" * 31),
        template("{a}" * 60 + "!"),
        template("{+a}" * 60 + "{+b*}|"),
    ]
    topics = ["https://example.com/" + "a" * 2000, "a" * 2048, "%41" * 680]
    began = time.process_time()
    for matcher in hostile:
        for topic in topics:
            matcher.matches(topic)
    assert time.process_time() - began < 10  # backtracking would take years


def test_a_set_of_matchers_knows_its_exact_topics_and_tries_the_others() -> None:
    both = Matchers([exact("a"), urlpattern("https://example.com/:id"), exact("a"), template("/x/{y}")])
    assert both.exact == {"a"}
    assert [matcher.text for matcher in both.others] == ["https://example.com/:id", "/x/{y}"]
    assert both.matches("a")
    assert both.matches("https://example.com/1")
    assert both.matches("/x/7")
    assert not both.matches("b")
    assert both == Matchers([exact("a"), urlpattern("https://example.com/:id"), template("/x/{y}")])
    assert hash(both) == hash(Matchers([exact("a"), urlpattern("https://example.com/:id"), template("/x/{y}")]))


def test_nothing_has_no_topic_and_all_has_each() -> None:
    assert not NO_MATCHERS
    assert not NO_MATCHERS.matches("a")
    assert ALL
    assert ALL.matches("a")
    assert matchers_of(Kind.EXACT, ["a", "*"]).everything
    assert (matchers_of(Kind.EXACT, ["a"]) | matchers_of(Kind.EXACT, ["b"])).matches("b")
