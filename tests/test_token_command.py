"""`sse-fast token`: what it makes a server with the same settings takes, and what is wrong it says in a line."""

import json
import stat
import time
from pathlib import Path
from typing import Any

import jwt
import pytest

from sse_fast.access.keys import key_of_secret, key_set_of
from sse_fast.access.patterns import Patterns
from sse_fast.access.tokens import Tokens

pytestmark = pytest.mark.usefixtures("nothing_set")

SECRET = "a secret of these tests, of 32 bytes or more"


@pytest.fixture
def secret(nothing_set: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSE_FAST_TOKEN_SECRET", SECRET)


def of_server(**settings: Any) -> Tokens:
    tokens = Tokens(**settings)
    tokens.use([key_of_secret(SECRET.encode())])
    return tokens


def made(run: Any, *args: str) -> str:
    result = run("token", *args)
    assert result.exit_code == 0, result.output
    assert result.stderr == ""
    return str(result.stdout.strip())


def refused(run: Any, status: int, *args: str) -> str:
    result = run("token", *args)
    assert (result.exit_code, result.stdout) == (status, "")
    assert result.stderr.startswith("sse-fast: ")
    assert result.stderr.count("\n") == 1
    return str(result.stderr)


@pytest.mark.usefixtures("secret")
def test_a_server_with_the_same_secret_takes_what_it_makes(run: Any) -> None:
    text = made(run, "--subscribe", "orders:*", "--subscribe", "user:42:**", "--publish", "a", "--user", "42")
    grants = of_server().grants_of(text, time.time())
    assert grants.subscribe == Patterns.of(["orders:*", "user:42:**"])
    assert (grants.publish, grants.user, grants.history) == (Patterns.of(["a"]), "42", True)
    assert grants.operations is False
    assert made(run, "make", "--operations") != text


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("given", "seconds"), [("90s", 90), ("30m", 1800), ("1h", 3600), ("1.5h", 5400), ("7d", 604_800)]
)
def test_it_is_good_for_as_long_as_is_said(run: Any, given: str, seconds: float) -> None:
    claims = jwt.decode(made(run, "--subscribe", "a", "--for", given), SECRET, ["HS256"])
    assert claims["exp"] - claims["iat"] == pytest.approx(seconds, abs=1)
    assert claims["iat"] == pytest.approx(time.time(), abs=60)


@pytest.mark.usefixtures("secret")
def test_no_history_no_end_and_operations_are_said_in_it(run: Any) -> None:
    claims = jwt.decode(made(run, "--subscribe", "a", "--no-history", "--endless", "--operations"), SECRET, ["HS256"])
    assert claims["sse"] == {"subscribe": ["a"], "history": False, "operations": True}
    assert "exp" not in claims


@pytest.mark.usefixtures("secret")
def test_what_is_not_said_is_as_serve_would_have_it_here(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sse-fast.toml").write_text('token_issuer = "shop"')
    monkeypatch.setenv("SSE_FAST_TOKEN_AUDIENCE", "edge")
    text = made(run, "--subscribe", "a")
    assert of_server(issuer="shop", audience="edge").grants_of(text, time.time()).subscribe
    claims = jwt.decode(made(run, "--subscribe", "a", "--issuer", "other"), SECRET, ["HS256"], audience="edge")
    assert claims["iss"] == "other"


@pytest.mark.parametrize(
    ("args", "why"),
    [
        (["--subscribe", "a"], "there is nothing to sign with: set SSE_FAST_TOKEN_SECRET"),
        (["--subscribe", "a", "--secret", "short"], "at least 32 bytes"),
        (["--secret", SECRET], "a token grants something"),
        (["--secret", SECRET, "--subscribe", "or*"], "--subscribe: "),
        (["--secret", SECRET, "--publish", "a::b", "--key", "no.json"], "no.json: cannot be read"),
        (["--secret", SECRET, "--key", "no.json", "--subscribe", "a"], "give one"),
        (["inspect", "nothing"], "this is no token"),
        (["keys", "no/such/directory.json"], "cannot be written"),
        (["keys", "no.json", "--add"], "no.json: cannot be read"),
    ],
)
def test_what_is_asked_for_wrongly_is_said_in_a_line(run: Any, args: list[str], why: str) -> None:
    said = refused(run, 1 if args[0] == "inspect" else 2, *args)
    assert why in said or why == "no.json: cannot be read"
    assert SECRET not in said


def test_a_time_that_is_none_is_refused(run: Any) -> None:
    result = run("token", "--subscribe", "a", "--for", "soon")
    assert result.exit_code == 2
    assert "write 90s, 30m, 1h or 7d" in result.stderr


# ---- keys ------------------------------------------------------------------------------------------------------------


def test_a_secret_is_long_enough_and_never_the_same(run: Any) -> None:
    secrets = {made(run, "secret") for _ in range(3)}
    assert len(secrets) == 3
    assert all(len(secret) >= 43 for secret in secrets)


@pytest.mark.parametrize("algorithm", ["ES256", "RS256", "EdDSA"])
def test_a_key_pair_signs_what_its_public_half_verifies(run: Any, algorithm: str) -> None:
    public = made(run, "keys", "signing.json", "--algorithm", algorithm)
    assert stat.S_IMODE(Path("signing.json").stat().st_mode) == 0o600
    assert not {"d", "p", "q"} & set(json.loads(public)["keys"][0])
    text = made(run, "--key", "signing.json", "--subscribe", "a")
    tokens = Tokens()
    tokens.use(key_set_of(public).keys)
    assert tokens.grants_of(text, time.time()).subscribe == Patterns.of(["a"])
    assert jwt.get_unverified_header(text)["alg"] == algorithm


def test_keys_are_changed_by_adding_one_which_signs_from_then_on(run: Any) -> None:
    first = json.loads(made(run, "keys", "signing.json"))["keys"]
    assert "is there" in refused(run, 2, "keys", "signing.json")
    both = json.loads(made(run, "keys", "signing.json", "--add"))["keys"]
    assert (both[:1], len(both), both[0]["kid"] != both[1]["kid"]) == (first, 2, True)
    assert json.loads(made(run, "keys", "signing.json", "--public"))["keys"] == both
    assert jwt.get_unverified_header(made(run, "--key", "signing.json", "--subscribe", "a"))["kid"] == both[1]["kid"]
    assert sorted(path.name for path in Path().iterdir()) == ["signing.json"]


# ---- looking into them -----------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("secret")
def test_inspect_says_what_is_in_a_token_and_that_it_is_good(run: Any) -> None:
    text = made(run, "--subscribe", "a", "--user", "42")
    for given in ((text,), ("-",)):
        result = run("token", "inspect", *given, input=text if given == ("-",) else None)
        assert result.exit_code == 0
        said = json.loads(result.stdout)
        assert (said["header"]["alg"], said["claims"]["sub"]) == ("HS256", "42")
        assert "takes it" in result.stderr
        assert "it ends 2" in result.stderr


@pytest.mark.usefixtures("secret")
def test_inspect_says_why_a_token_is_not_good(run: Any) -> None:
    expired = jwt.encode({"exp": 1}, SECRET, "HS256")
    for text, why in (
        (expired, "has expired"),
        (made(run, "--subscribe", "a", "--secret", "x" * 32), "signed with another key"),
        (
            jwt.encode({"exp": time.time() + 60, "sse": {"subscribe": ["or*"]}}, SECRET, "HS256"),
            "grants what cannot be",
        ),
    ):
        result = run("token", "inspect", text)
        assert result.exit_code == 1
        assert "claims" in json.loads(result.stdout)
        assert why in result.stderr


@pytest.mark.usefixtures("secret")
@pytest.mark.parametrize(
    ("claims", "status", "why"),
    [
        ({"exp": 1_800_000_000_000}, 1, "in seconds since 1970, not in milliseconds"),
        ({"exp": 10**30}, 1, "in seconds since 1970, not in milliseconds"),
        ({}, 0, "it grants nothing but what everybody may: the token has no claim 'sse'"),
        ({"sse": {}}, 0, "it grants nothing but what everybody may"),
    ],
)
def test_inspect_says_what_a_token_is_short_of(run: Any, claims: dict[str, Any], status: int, why: str) -> None:
    claims = {"exp": int(time.time()) + 60} | claims
    result = run("token", "inspect", jwt.encode(claims, SECRET, "HS256"))
    assert result.exit_code == status
    assert json.loads(result.stdout)["claims"] == claims
    assert why in result.stderr


@pytest.mark.usefixtures("secret")
def test_inspect_says_so_where_a_token_is_taken_by_the_leeway_alone(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSE_FAST_TOKEN_LEEWAY", "600")
    said = run("token", "inspect", jwt.encode({"exp": int(time.time()) - 2}, SECRET, "HS256")).stderr
    assert "it ended " in said
    assert "takes it until 600 s after its end, its leeway" in said


def test_inspect_says_so_where_it_cannot_check(run: Any) -> None:
    result = run("token", "inspect", jwt.encode({"exp": time.time() + 60}, SECRET, "HS256"))
    assert result.exit_code == 0
    assert "was not checked" in result.stderr


def test_inspect_lists_a_key_set_and_warns_of_private_keys(run: Any) -> None:
    public = made(run, "keys", "signing.json")
    Path("public.json").write_text(public)
    kid = json.loads(public)["keys"][0]["kid"]
    result = run("token", "inspect", "public.json")
    assert (result.exit_code, result.stdout) == (0, f"{kid}  ES256\n")
    assert result.stderr == ""
    assert "private keys" in run("token", "inspect", "signing.json").stderr
    text = made(run, "--key", "signing.json", "--subscribe", "a")
    assert "takes it" in run("token", "inspect", text, "--keys", "public.json").stderr


def test_the_public_half_goes_to_a_file_which_nothing_empties(run: Any) -> None:
    assert made(run, "keys", "signing.json", "--out", "public.json") == ""
    public = Path("public.json").read_bytes()
    assert "d" not in json.loads(public)["keys"][0]
    assert "signing.json is there" in refused(run, 2, "keys", "signing.json", "--out", "public.json")
    assert Path("public.json").read_bytes() == public
    made(run, "keys", "signing.json", "--add", "--out", "public.json")
    assert len(json.loads(Path("public.json").read_bytes())["keys"]) == 2
    assert "name two files" in refused(run, 2, "keys", "signing.json", "--public", "--out", "signing.json")


def test_a_file_that_is_not_there_is_said_to_be_none(run: Any) -> None:
    assert "there is no file nosuch.json" in refused(run, 1, "inspect", "nosuch.json")
    assert "secret" not in refused(run, 1, "inspect", "secret.secret.secret")
