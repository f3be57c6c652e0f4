"""Tokens become grants: which keys sign whose, what is refused and in which words, what is remembered, how long."""

import base64
import gc
import json
import time
import tracemalloc
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import OKPAlgorithm, RSAAlgorithm
from signing import OTHER_SECRET, SECRET, ec_key, ed_key, key_set, listen, public, rsa_key, signed_by_hs256, token

from sse_fast.access.algorithms import ALGORITHMS, BadKeys
from sse_fast.access.asking import Found, KeyAsked, MustAsk
from sse_fast.access.grants import Grants
from sse_fast.access.keys import MOST_KEYS, key_of_secret, key_set_of
from sse_fast.access.patterns import Patterns
from sse_fast.access.tokens import MAX_TOKEN, Tokens
from sse_fast.errors import Unauthorized

NOW = time.time()


def tokens_of(*jwks: dict[str, Any], **options: Any) -> Tokens:
    """With a secret, or these keys."""
    tokens = Tokens(**options)
    if jwks:
        tokens.use(key_set_of(key_set(*jwks), tokens.algorithms, tokens.issuer).keys)
    else:
        tokens.use([key_of_secret(SECRET.encode(), tokens.algorithms, tokens.issuer)])
    return tokens


def refused(tokens: Tokens, text: str) -> str:
    """In which words."""
    with pytest.raises(Unauthorized) as refusal:
        tokens.grants_of(text, NOW)
    assert refusal.value.error == "invalid_token"
    assert len(text) < 20 or text not in str(refusal.value)
    return str(refusal.value)


def test_a_token_grants_what_its_claim_says_beside_what_everybody_may() -> None:
    everybody = Grants(Patterns.of(["news"]))
    tokens = tokens_of(everybody=everybody)
    grants = tokens.grants_of(token({"subscribe": ["orders:*"], "publish": ["chat:1"]}, sub="42"), NOW)
    assert (grants.subscribe, grants.publish) == (Patterns.of(["orders:*", "news"]), Patterns.of(["chat:1"]))
    assert (grants.user, grants.history, grants.operations) == ("42", True, False)
    assert grants.until is not None
    assert time.time() < grants.until <= time.time() + 3600
    assert grants.credential
    other = tokens.grants_of(token({"history": False, "operations": True}), NOW)
    assert (other.subscribe, other.history, other.operations) == (Patterns.of(["news"]), False, True)
    assert other.credential != grants.credential


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (listen("a", seconds=-3600), "has expired"),
        (listen("a", nbf=NOW + 3600), "not valid yet"),
        (listen("a", iat=NOW + 3600), "not valid yet"),
        (listen("a", seconds=None), "has no 'exp'"),
        (listen("a", key=OTHER_SECRET), "another key"),
        (listen("a", aud="somebody"), "another audience"),
        (listen("a")[:-3], "another key"),
        (listen("a").rpartition(".")[0], "cannot be read"),
        (listen("a").rpartition(".")[0] + ".", "another key"),
        (listen("a", exp="soon", seconds=None), "cannot be read"),
        (listen("a", exp=1e400, seconds=None), "cannot be read"),
        (listen("a", exp=str(int(NOW) + 86_400), seconds=None), "'exp' is no number"),
        (listen("a", exp=f" {int(NOW) + 86_400} ", seconds=None), "'exp' is no number"),
        (listen("a", nbf=str(int(NOW) - 60)), "'nbf' is no number"),
        (listen("a", nbf=True), "'nbf' is no number"),
        (listen("a", sub=42), "'sub' is not a string"),
        (listen("a", exp=int(NOW * 1000), seconds=None), "in seconds since 1970, not in milliseconds"),
        (listen("a", exp=10**30, seconds=None), "in seconds since 1970, not in milliseconds"),
        ("", "this is no token"),
        ("s3cret", "this is no token"),
        ("a.b.c", "this is no token"),
        ("..", "this is no token"),
        ("é.é.é", "this is no token"),
        ("x" * (MAX_TOKEN + 1), "longer than"),
        (jwt.encode({}, None, "none"), "signed by 'none'"),
        (listen("a", key="k" * 64, algorithm="HS512"), "signed by 'HS512'; allowed are HS256"),
        (token({"subscribe": "a"}), "array of patterns"),
        (token({"subscribe": ["a*"]}), "within a segment"),
        (token({"subscribes": ["a"]}), "'subscribes'; it takes 'subscribe'"),
        (token({"history": 1}), "true or false"),
        (token(["a"]), "is an object"),
    ],
)
def test_what_is_no_good_token_is_refused_in_words_that_say_why(given: str, why: str) -> None:
    assert why in refused(tokens_of(), given)


def test_clocks_may_differ_by_the_leeway_and_it_ends_so_much_later() -> None:
    tokens = tokens_of(leeway=60)
    grants = tokens.grants_of(listen("a", seconds=-30, nbf=NOW + 30), NOW)
    assert grants.until is not None
    assert grants.until > NOW + 20
    assert refused(tokens, listen("a", seconds=-90)) == "the token has expired"


def test_a_stream_of_a_token_ends_with_it_and_not_a_leeway_later() -> None:
    tokens, given = tokens_of(leeway=60), listen("a", seconds=100)
    end = tokens.grants_of(given, NOW).until
    assert end is not None
    assert end == pytest.approx(time.time() + 100, abs=30)
    late = tokens.grants_of(given, end + 30)
    assert late.until == end + 60, "it is taken, so it does not end at once"
    assert tokens.grants_of(given, NOW).until == end
    with pytest.raises(Unauthorized, match="expired"):
        tokens.grants_of(given, end + 60)


def test_a_token_ends_within_a_hundred_years_but_where_one_need_not_end() -> None:
    far = listen("a", seconds=101 * 366 * 86_400)
    assert "'exp' is over a hundred years from now" in refused(tokens_of(), far)
    assert tokens_of(endless=True).grants_of(far, NOW).subscribe
    assert tokens_of().grants_of(listen("a", seconds=99 * 365 * 86_400), NOW).subscribe


def test_tokens_that_never_end_are_taken_where_that_is_said() -> None:
    assert tokens_of(endless=True).grants_of(listen("a", seconds=None), NOW).until is None


def test_issuer_and_audience_must_be_those_that_are_said() -> None:
    tokens = tokens_of(issuer="https://id.example", audience="edge")
    assert "no 'iss'" in refused(tokens, listen("a", aud="edge"))
    assert "another issuer" in refused(tokens, listen("a", aud="edge", iss="https://evil.example"))
    assert "no 'aud'" in refused(tokens, listen("a", iss="https://id.example"))
    assert "another audience" in refused(tokens, listen("a", iss="https://id.example", aud="shop"))
    for audience in ("edge", ["shop", "edge"]):
        assert tokens.grants_of(listen("a", iss="https://id.example", aud=audience), NOW).subscribe


# ---- keys ----


@pytest.mark.parametrize(
    ("key", "algorithm"), [(rsa_key(), "RS256"), (ec_key(), "ES256"), (ed_key(), "EdDSA"), (rsa_key(), "PS512")]
)
def test_a_key_of_a_set_signs(key: Any, algorithm: str) -> None:
    tokens = tokens_of(public(ec_key("other"), kid="0"), public(key, kid="1"), algorithms=ALGORITHMS)
    for kid in ("1", None):
        assert tokens.grants_of(listen("a", key=key, algorithm=algorithm, kid=kid), NOW).subscribe
    assert "there is no key '2'" in refused(tokens, listen("a", key=key, algorithm=algorithm, kid="2"))
    assert "another key" in refused(tokens, listen("a", key=ec_key(), algorithm="ES256", kid="0"))


def test_a_public_key_is_no_secret() -> None:
    """Algorithm confusion: a token that is signed by HS256, with the bytes of a key that everybody knows."""
    tokens = tokens_of(public(rsa_key(), kid="1"))
    tokens.use([key_of_secret(SECRET.encode())], "secret")
    jwk = public(rsa_key())
    pem = rsa_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for bytes_known in (pem, json.dumps(jwk).encode(), jwk["n"].encode(), base64.urlsafe_b64decode(jwk["n"] + "==")):
        forged = signed_by_hs256({"exp": NOW + 60, "sse": {"subscribe": ["**"]}}, bytes_known, kid="1")
        refused(tokens, forged)
    assert "there is no key" in refused(tokens_of(public(rsa_key(), kid="1")), listen("a"))


def test_a_key_signs_only_by_its_own_algorithm() -> None:
    bound = tokens_of(public(rsa_key(), alg="PS256"), algorithms=ALGORITHMS)
    assert bound.grants_of(listen("a", key=rsa_key(), algorithm="PS256"), NOW).subscribe
    assert "there is no key for RS256" in refused(bound, listen("a", key=rsa_key(), algorithm="RS256"))


def test_a_key_signs_only_the_tokens_of_its_issuer() -> None:
    mine, theirs = public(rsa_key(), kid="1", iss="mine"), public(rsa_key("theirs"), kid="2", iss="theirs")
    tokens = tokens_of(mine, theirs, issuer="mine")
    assert tokens.grants_of(listen("a", key=rsa_key("theirs"), algorithm="RS256", kid="2", iss="theirs"), NOW).subscribe
    forged = listen("a", key=rsa_key("theirs"), algorithm="RS256", kid="2", iss="mine")
    assert refused(tokens, forged) == "the token is of another issuer"


def test_of_a_key_set_what_signs_no_tokens_is_left_out_and_said() -> None:
    usable = public(rsa_key(), kid="1")
    weak = public(rsa_key(), kid="2") | {"n": "AQAB"}
    found = key_set_of(
        key_set(
            usable,
            usable | {"use": "enc"},
            usable | {"key_ops": ["encrypt"]},
            usable | {"alg": "RSA-OAEP"},
            usable | {"alg": "RS512"},
            {"kty": "weird"},
            {"kty": "oct", "k": "c2hvcnQ"},
            usable | {"n": 7},
            usable | {"kid": 7},
            weak,
        )
    )
    assert [key.kid for key in found.keys] == ["1"]
    assert len(found.skipped) == 9
    for secret in (usable["n"], "c2hvcnQ"):
        assert secret not in repr(found)


def test_of_a_private_key_only_the_public_part_is_kept() -> None:
    private = RSAAlgorithm.to_jwk(rsa_key(), as_dict=True)
    (key,) = key_set_of(key_set(private)).keys
    assert not hasattr(key.by_algorithm["RS256"].key, "private_numbers")


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (b"", "no JSON"),
        (b"[" * 100_000, "no JSON"),
        (b"[]", "no key set"),
        (b'{"keys": 7}', "no key set"),
        (b'{"keys": []}', "it is empty"),
        (b'{"keys": [7]}', "key 0: a key is an object"),
        (key_set(*[{"kty": "x"}] * (MOST_KEYS + 1)), "at most 128 keys"),
    ],
)
def test_what_is_no_key_set_is_refused_in_words(text: bytes, why: str) -> None:
    with pytest.raises(BadKeys, match=why):
        key_set_of(text)


def test_a_secret_has_as_many_bytes_as_its_digest() -> None:
    with pytest.raises(BadKeys, match="at least 32 bytes, this has 31"):
        key_of_secret(b"x" * 31)


def test_of_keys_without_a_name_a_few_are_tried_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = tokens_of(*[public(ed_key(str(n))) for n in range(40)])
    looked_at, read = [], []
    verify, decode = OKPAlgorithm.verify, jwt.decode
    monkeypatch.setattr(OKPAlgorithm, "verify", lambda *given: looked_at.append(1) or verify(*given))
    monkeypatch.setattr(jwt, "decode", lambda *given, **how: read.append(1) or decode(*given, **how))
    assert "another key" in refused(tokens, listen("a", key=ed_key("forged"), algorithm="EdDSA"))
    assert (len(looked_at), len(read)) == (4, 0), "a forged token is not even read"
    assert tokens.grants_of(listen("a", key=ed_key("3"), algorithm="EdDSA"), NOW).subscribe == Patterns.of(["a"])
    assert len(read) == 1


@pytest.mark.parametrize("signature", ["", "A", "=", "AA", "é", "!!!!", "x" * 4000])
@pytest.mark.parametrize("make", [rsa_key, ec_key, ed_key])
def test_a_signature_that_is_none_is_no_key_s_of_several(make: Any, signature: str) -> None:
    tokens = tokens_of(public(make("1")), public(make("2")))
    algorithm = {rsa_key: "RS256", ec_key: "ES256", ed_key: "EdDSA"}[make]
    signed = listen("a", key=make("1"), algorithm=algorithm).rpartition(".")[0]
    assert refused(tokens, f"{signed}.{signature}")


# ---- asking for keys ----


def test_a_key_that_is_not_here_is_asked_for_once() -> None:
    tokens = tokens_of(public(rsa_key(), kid="1"), asks=True)
    wanted = listen("a", key=rsa_key("new"), algorithm="RS256", kid="new")
    with pytest.raises(MustAsk) as must:
        tokens.grants_of(wanted, NOW)
    assert must.value.what == KeyAsked("new")
    with pytest.raises(Unauthorized, match="there is no key 'new'"):
        tokens.grants_of(wanted, NOW, Found(keys=True))
    tokens.use(key_set_of(key_set(public(rsa_key("new"), kid="new"))).keys, "url")
    assert tokens.grants_of(wanted, NOW).subscribe


def test_nobody_is_asked_for_a_token_that_no_key_could_sign() -> None:
    tokens = tokens_of(public(rsa_key(), kid="1"), asks=True)
    for hopeless in (jwt.encode({}, None, "none"), "x", listen("a", key="k" * 64, algorithm="HS512", kid="x")):
        refused(tokens, hopeless)
    refused(tokens, listen("a", key=rsa_key("other"), algorithm="RS256", kid="1"))


@pytest.mark.parametrize("kid", [None, "1"])
def test_nobody_is_asked_where_a_key_that_is_here_verifies_it(kid: str | None) -> None:
    tokens = tokens_of(public(ed_key()), asks=True)  # by no id, so that any may mean it
    tokens.use([key_of_secret(SECRET.encode())], "secret")
    assert tokens.grants_of(listen("a", kid=kid), NOW).subscribe
    assert tokens.grants_of(listen("a", key=ed_key(), algorithm="EdDSA", kid=kid), NOW).subscribe
    refused(tokens, listen("a", key=ed_key("other"), algorithm="EdDSA"))
    with pytest.raises(MustAsk):
        tokens.grants_of(listen("a", key=ed_key("other"), algorithm="EdDSA", kid="1"), NOW)


def test_nobody_is_asked_for_a_secret_which_is_never_fetched() -> None:
    tokens = tokens_of(public(ed_key(), kid="1"), asks=True)
    refused(tokens, listen("a", kid="new"))
    tokens.use([key_of_secret(SECRET.encode())], "secret")
    refused(tokens, listen("a", key=OTHER_SECRET, kid="new"))


# ---- what is remembered ----


def test_a_token_that_was_verified_is_not_verified_again_until_it_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = tokens_of()
    text = listen("a")
    grants = tokens.grants_of(text, NOW)
    monkeypatch.setattr(jwt, "decode", None)
    assert tokens.grants_of(text, NOW) is grants
    assert (tokens.hits, tokens.misses, len(tokens)) == (1, 1, 1)
    assert grants.until is not None
    assert tokens.grants_of(text, grants.until - 0.001) is grants
    monkeypatch.undo()
    with pytest.raises(Unauthorized, match="has expired"):
        tokens.grants_of(text, grants.until)
    assert len(tokens) == 0


def test_other_keys_end_what_was_verified_by_those_before() -> None:
    tokens = tokens_of(public(rsa_key(), kid="1"))
    text = listen("a", key=rsa_key(), algorithm="RS256", kid="1")
    assert tokens.grants_of(text, NOW)
    told: list[int] = []
    tokens.changes.tell(lambda: told.append(len(tokens)))
    tokens.use(key_set_of(key_set(public(rsa_key(), kid="1"))).keys)
    assert (len(tokens), told) == (1, []), "the same keys"
    tokens.use(key_set_of(key_set(public(rsa_key("new"), kid="1"))).keys)
    assert (len(tokens), told) == (0, [0])
    assert "another key" in refused(tokens, text)


def test_a_bad_token_is_not_remembered_and_of_good_ones_so_many() -> None:
    tokens = tokens_of(remembered=3)
    refused(tokens, listen("a", key=OTHER_SECRET))
    assert len(tokens) == 0
    first = listen("0")
    for n in range(5):
        tokens.grants_of(listen(str(n)), NOW)
    assert len(tokens) == 3
    misses = tokens.misses
    tokens.grants_of(first, NOW)
    assert tokens.misses == misses + 1, "the oldest goes"


def of_many(n: int) -> str:
    """A token, no longer than they may be, of which much has to be kept."""
    return listen(*(f"{n}{each}:*" for each in range(500)))


def test_of_tokens_that_grant_much_fewer_are_remembered() -> None:
    tokens = tokens_of(remembered_bytes=1_000_000)
    for n in range(5):
        tokens.grants_of(of_many(n), NOW)
    assert len(tokens) == 2
    long = tokens_of(remembered_bytes=15_000)
    for n in range(5):
        long.grants_of(listen("a", sub=f"{n}" * 2000), NOW)
    assert len(long) == 1
    tokens.use([key_of_secret(OTHER_SECRET.encode())])
    tokens.use([key_of_secret(SECRET.encode())])
    for n in range(5):
        tokens.grants_of(listen(str(n)), NOW)
    assert len(tokens) == 5


def test_what_is_remembered_takes_no_more_memory_than_that() -> None:
    given = [of_many(n) for n in range(12)]
    tokens = tokens_of(remembered_bytes=3_000_000)
    tokens.grants_of(of_many(99), NOW)  # what is loaded or learnt once
    tracemalloc.start()
    try:
        for text in given:
            tokens.grants_of(text, NOW)
        gc.collect()
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert 4 < len(tokens) < len(given)
    assert kept < 3_000_000 + 4096 * 256, "with the patterns whose segments are remembered"


def test_no_token_stays_in_what_is_remembered() -> None:
    tokens = tokens_of()
    text = listen("a")
    tokens.grants_of(text, NOW)
    for part in text.split("."):
        assert part not in repr(vars(tokens))


# ---- claims of others ----


@pytest.mark.parametrize(
    ("claims", "grants"),
    [
        (
            {"x-ably-capability": '{"a:*": ["subscribe", "history"], "*": ["publish"], "[queue]*": ["subscribe"]}'},
            Grants(Patterns.of(["a:**"]), Patterns.of(["**"])),
        ),
        ({"x-ably-capability": '{"a:*:b": ["*"]}'}, Grants(Patterns.of(["a:*:b"]), Patterns.of(["a:*:b"]))),
        ({"x-ably-capability": '{"a": ["subscribe"]}'}, Grants(Patterns.of(["a"]), history=False)),
        (
            {"caps": [{"channels": ["news", "u:1"], "allow": ["sub", "hst"]}, {"channels": ["u:1"], "allow": ["pub"]}]},
            Grants(Patterns.of(["news", "u:1"]), Patterns.of(["u:1"])),
        ),
        ({"caps": [{"channels": ["news"], "allow": ["sub"]}]}, Grants(Patterns.of(["news"]), history=False)),
        ({"sse": {}, "caps": [{"channels": ["news"], "allow": ["sub"]}]}, Grants()),
        ({"channels": ["news"]}, Grants()),
    ],
)
def test_claims_of_others_grant_what_they_say(claims: dict[str, Any], grants: Grants) -> None:
    found = tokens_of().grants_of(token(**claims), NOW)
    assert (found.subscribe, found.publish, found.history) == (grants.subscribe, grants.publish, grants.history)


@pytest.mark.parametrize(
    "claims",
    [
        {"x-ably-capability": "no JSON"},
        {"x-ably-capability": '{"a": "subscribe"}'},
        {"x-ably-capability": '{"a*": ["subscribe"]}'},
        {"caps": {"channels": ["a"]}},
        {"caps": [{"channels": ["a*"], "allow": ["sub"]}]},
        {"caps": [{"channels": ["a"], "allow": ["sub"], "match": "wildcard"}]},
        {"caps": [{"channels": ["a"]}]},
    ],
)
def test_a_claim_that_cannot_be_understood_is_refused(claims: dict[str, Any]) -> None:
    assert "grants what cannot be" in refused(tokens_of(), token(**claims))
