"""By which names the server is called: whoever uses another one gets nothing, whatever is asked (DNS rebinding)."""

import json

import pytest

from sse_fast.access.hosts import Hosts
from sse_fast.access.origins import Origins
from sse_fast.protocol.decide import decide
from sse_fast.protocol.decision import Answer, Decision, Elsewhere, Publish, Subscribe
from sse_fast.protocol.policy import Policy
from sse_fast.protocol.request import Request
from sse_fast.settings import BadSettings, Settings

LOOPBACK = (
    "localhost",
    "LOCALHOST:8000",
    "localhost.",
    "app.localhost:80",
    "127.0.0.1:8000",
    "127.9.9.9",
    "[::1]:8000",
)
FOREIGN = ("evil.test", "evil.test:80", "localhost.evil.test", "127.0.0.1.evil.test", "8.8.8.8", "0.0.0.0", "[::", ".")


@pytest.mark.parametrize("allowed", [(), ("localhost",), ("shop.example",), ("*",)])
@pytest.mark.parametrize("host", LOOPBACK)
def test_loopback_names_are_always_the_server_s(host: str, allowed: tuple[str, ...]) -> None:
    assert Hosts(allowed).allow(host.encode())


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_are_not_unless_they_are_listed(host: str) -> None:
    assert not Hosts().allow(host.encode())
    assert not Hosts(["shop.example"]).allow(host.encode())
    assert Hosts(["*"]).allow(host.encode())


@pytest.mark.parametrize(
    ("listed", "host", "allowed"),
    [
        ("shop.example", "shop.example", True),
        ("shop.example", "Shop.Example.:443", True),
        ("Shop.Example", "shop.example", True),
        ("shop.example", "www.shop.example", False),
        ("shop.example", "ashop.example", False),
        ("*.shop.example", "www.shop.example:80", True),
        ("*.shop.example", "a.b.shop.example", True),
        ("*.shop.example", "shop.example", False),
        ("*.shop.example", "ashop.example", False),
        ("10.0.0.5", "10.0.0.5:8000", True),
        ("fd00::5", "[fd00::5]:8000", True),
    ],
)
def test_a_listed_name_is_meant_with_any_port_and_a_star_all_below(listed: str, host: str, allowed: bool) -> None:
    assert Hosts([listed]).allow(host.encode()) is allowed


def test_a_request_without_a_host_is_of_no_browser() -> None:
    assert Hosts().allow(None)
    assert Hosts().allow(b"")


def asked(head: str, host: str | None, policy: Policy) -> Decision:
    method, target = head.split(" ")
    headers = [(b"host", host.encode())] if host is not None else []
    return decide(Request.from_head(method, target.encode(), headers, "1.1"), policy)


ROUTES = [
    "GET /sse/a",
    "HEAD /sse/a",
    "OPTIONS /sse/a",
    "POST /publish/a",
    "POST /publish",
    "GET /",
    "GET /channels",
    "GET /stats",
    "GET /metrics",
    "GET /healthz",
    "GET /nothing",
    "DELETE /channels/a",
]


@pytest.mark.parametrize("path", ["", "/edge"])
@pytest.mark.parametrize("route", ROUTES)
def test_by_a_foreign_name_there_is_nothing_to_read_and_nothing_to_publish(route: str, path: str) -> None:
    policy = Policy(hosts=Hosts(), path=path)
    head = route.replace(" /", f" {path}/", 1)
    refused = asked(head, "evil.test:8000", policy)
    assert isinstance(refused, Answer)
    told = json.loads(refused.body)
    assert (refused.status, told["status"]) == (421, 421)
    assert "'evil.test:8000' is no name of this server" in told["detail"]
    assert "allowed_hosts" in told["detail"]
    by_name = asked(head, "localhost:8000", policy)
    assert not isinstance(by_name, Answer) or by_name.status != 421


@pytest.mark.parametrize("route", ["GET /livez", "GET /readyz"])
def test_whether_it_lives_anybody_may_ask_by_any_name(route: str) -> None:
    assert asked(route, "10.0.0.5:8000", Policy(hosts=Hosts())) == Elsewhere()


def test_beside_an_app_its_own_routes_are_the_app_s_to_guard() -> None:
    policy = Policy(hosts=Hosts(), path="/edge")
    assert asked("GET /stats", "evil.test", policy) == Elsewhere(ours=False)
    assert asked("GET /edge/sse/a", "localhost", policy) == Subscribe(("a",))


def test_without_a_list_any_name_will_do() -> None:
    assert asked("GET /sse/a", "evil.test", Policy()) == Subscribe(("a",))
    assert isinstance(asked("POST /publish/a", "evil.test", Policy()), Publish)


def test_a_preflight_by_a_foreign_name_allows_nothing() -> None:
    headers = [(b"host", b"evil.test"), (b"origin", b"http://evil.test"), (b"access-control-request-method", b"POST")]
    policy = Policy(hosts=Hosts(), origins=Origins(["http://evil.test"]))
    refused = decide(Request.from_head("OPTIONS", b"/publish/a", headers, "1.1"), policy)
    assert isinstance(refused, Answer)
    assert refused.status == 421


# ---- the setting -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("nothing_set")
@pytest.mark.parametrize(
    ("flags", "hosts"),
    [
        ({}, ["localhost"]),
        ({"host": "localhost"}, ["localhost"]),
        ({"host": "::1"}, ["localhost"]),
        ({"app": "shop:app"}, ["localhost"]),
        ({"publish_key": "k"}, ["localhost"]),
        ({"host": "0.0.0.0", "open": True}, ["*"]),
        ({"host": "shop.example", "open": True}, ["*"]),
        ({"uds": "/tmp/edge.sock"}, ["*"]),
        ({"trusted_proxies": "127.0.0.1"}, ["*"]),
        ({"allowed_hosts": "Shop.example, *.shop.example"}, ["shop.example", "*.shop.example"]),
        ({"allowed_hosts": "[FD00::5]", "host": "0.0.0.0", "open": True}, ["fd00::5"]),
    ],
)
def test_on_loopback_only_loopback_names_will_do_by_default(flags: dict[str, object], hosts: list[str]) -> None:
    assert Settings.load(flags).hosts_where_it_listens == hosts


@pytest.mark.usefixtures("nothing_set")
@pytest.mark.parametrize(
    "host", ["http://shop.example", "shop.example:80", "shop/", "*shop.example", "a b", "grün.example"]
)
def test_what_is_no_name_is_refused(host: str) -> None:
    with pytest.raises(BadSettings, match=r"--allowed-hosts: .*without scheme and port"):
        Settings.load({"allowed_hosts": [host]})
