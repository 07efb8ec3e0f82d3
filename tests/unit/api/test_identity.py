"""Callers are identified only by tokens that the trusted issuer signed with a known key.

Every other token is refused with a sentence.
"""

import asyncio
import base64
import hmac
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

from app.api.auth import jwks
from app.api.auth.identity import (
    MAX_SUBJECT_LENGTH,
    MAX_TOKEN_BYTES,
    BearerTokens,
    ClaimNames,
    OpenAccess,
    bearer,
    mint,
)
from app.api.auth.jwks import (
    MAX_AGE_SECONDS,
    MAX_KEY_SET_BYTES,
    MIN_LOAD_INTERVAL_SECONDS,
    REFRESH_SECONDS,
    JwksKeys,
    SharedSecret,
)
from app.api.http.refusals import KeysUnavailable, Unauthenticated
from app.domain.callers import EVERY_SCOPE, Caller, Scope
from app.domain.stores import ORGANIZATION

SECRET = "0123456789abcdef0123456789abcdef"
ISSUER, AUDIENCE = "https://issuer.example", "gateway"
SOON = timedelta(minutes=5)

RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
OTHER_RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
Jwk = dict[str, Any]

SHARED = BearerTokens({ISSUER: SharedSecret(SECRET)}, audiences=[AUDIENCE])


class Clock:
    """Seconds, advanced by the test."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Issuer:
    """A real HTTP server with a changeable response."""

    def __init__(self) -> None:
        self.requests = 0
        self.status = 200
        self.body = b""
        self.headers: dict[str, str] = {}
        self.may_respond = threading.Event()
        self.may_respond.set()
        self.was_requested = threading.Event()
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.requests += 1
                issuer.was_requested.set()
                issuer.may_respond.wait(30)
                self.send_response(issuer.status)
                for name, value in issuer.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(issuer.body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/jwks.json"

    def publish(self, *keys: Jwk) -> None:
        """Respond with this set of keys."""
        self.body = key_set(*keys)


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    """An issuer on this machine."""
    running = Issuer()
    thread = threading.Thread(target=running.server.serve_forever, args=[0.01])
    thread.start()
    yield running
    running.may_respond.set()
    running.server.shutdown()
    running.server.server_close()
    thread.join()


@pytest.fixture
def clock() -> Clock:
    """The clock of a key set."""
    return Clock()


def public(key: PrivateKey, **members: Any) -> Jwk:
    """The public key as an issuer publishes it."""
    if isinstance(key, rsa.RSAPrivateKey):
        jwk = RSAAlgorithm.to_jwk(key.public_key(), as_dict=True)
    else:
        jwk = ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return {**jwk, **members}


def key_set(*keys: Jwk) -> bytes:
    return json.dumps({"keys": keys}).encode()


def saved(folder: Path, *keys: Jwk) -> str:
    """Save these keys to a file; return its path."""
    file = folder / "jwks.json"
    file.write_bytes(key_set(*keys))
    return str(file)


def broken(path: str) -> None:
    Path(path).write_bytes(b"{")


@dataclass(frozen=True)
class In:
    """An instant `seconds` after the token is created, not after tests are collected."""

    seconds: float


def claims(**changed: Any) -> dict[str, Any]:
    """The claims of a good token with changes; None removes a claim."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "store": "plants", "exp": In(300)}
    return {
        name: now + value.seconds if isinstance(value, In) else value
        for name, value in (good | changed).items()
        if value is not None
    }


def signed(**changed: Any) -> str:
    """A token with these claims, signed with the shared secret."""
    return jwt.encode(claims(**changed), SECRET, "HS256")


def signed_by(key: PrivateKey, kid: str | None = None, algorithm: str | None = None) -> str:
    """A good token, signed with a private key."""
    algorithm = algorithm or ("RS256" if isinstance(key, rsa.RSAPrivateKey) else "ES256")
    return jwt.encode(claims(), key, algorithm, {"kid": kid} if kid else None)


def raw(header: Any, payload: Any, secret: bytes = SECRET.encode()) -> str:
    """A token of parts that no library would sign; bytes are used unchanged."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    parts = [
        part(value if isinstance(value, bytes) else json.dumps(value).encode())
        for value in (header, payload)
    ]
    signature = hmac.digest(secret, ".".join(parts).encode(), "sha256")
    return ".".join([*parts, part(signature)])


def trusting(keys: JwksKeys) -> BearerTokens:
    return BearerTokens({ISSUER: keys}, audiences=[AUDIENCE])


async def loaded(keys: JwksKeys) -> None:
    """Wait for the load that runs in the background."""
    assert keys._loading
    await asyncio.wait_for(asyncio.shield(keys._loading), 30)


async def refusal(authentication: BearerTokens, token: str | None) -> str:
    """The sentence of the refusal."""
    with pytest.raises(Unauthenticated) as caught:
        await authentication.caller(token)
    return str(caught.value)


async def unavailable(authentication: BearerTokens, token: str) -> None:
    """Expect a refusal because no key is accepted now."""
    with pytest.raises(KeysUnavailable) as caught:
        await authentication.caller(token)
    assert caught.value.status == 503
    assert caught.value.headers == {"Retry-After": str(MIN_LOAD_INTERVAL_SECONDS)}


# Headers


@pytest.mark.parametrize(
    "header", ["Bearer a.b.c", "bearer a.b.c", "BEARER   a.b.c", " Bearer a.b.c "]
)
def test_a_token_comes_after_the_word_bearer(header: str) -> None:
    assert bearer(header) == "a.b.c"


def test_no_header_is_no_token() -> None:
    assert bearer(None) is None


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer ",
        "a.b.c",
        "Basic YTpi",
        "Bearera.b.c",
        "Bearer a b",
        "Bearer a, Bearer b",
        "Bearer a,b",
        "Bearer\ta",
        "Bearer\xa0a",
        "Bearer a\n",
        "Bearer a\x00",
        "Bearer ü",
        "Bearer \u212a",
        "Bearer =",
    ],
)
def test_any_other_header_is_refused(header: str) -> None:
    with pytest.raises(Unauthenticated):
        bearer(header)


@given(st.text())
def test_a_header_is_a_token_or_refused(text: str) -> None:
    try:
        token = bearer(text)
    except Unauthenticated:
        return
    assert token
    assert token in text


# Open access


@pytest.mark.parametrize("token", [None, "", "rubbish"])
async def test_without_authentication_every_request_has_all_scopes_in_one_store(
    token: str | None,
) -> None:
    access = OpenAccess("default")
    assert await access.caller(token) == Caller("default", None, EVERY_SCOPE, None)


# Good tokens


async def test_a_token_names_its_subject_store_and_expiry() -> None:
    exp = int(time.time()) + 300
    caller = await SHARED.caller(signed(exp=exp, scope="jobs:write"))
    assert caller == Caller(
        store="plants",
        subject="ada",
        scopes=frozenset({Scope.JOBS_READ, Scope.JOBS_WRITE}),
        expires_at=datetime.fromtimestamp(exp + 10, UTC),
    )


async def test_a_minted_token_is_accepted() -> None:
    token = mint(
        SECRET,
        issuer=ISSUER,
        audience=AUDIENCE,
        subject="ada",
        store="plants",
        scopes=[Scope.HIERARCHIES_READ],
        lifetime=SOON,
    )
    before = datetime.now(UTC)
    caller = await SHARED.caller(token)
    assert (caller.store, caller.subject) == ("plants", "ada")
    assert caller.scopes == {Scope.HIERARCHIES_READ}
    assert caller.expires_at is not None
    assert before < caller.expires_at <= datetime.now(UTC) + SOON + timedelta(seconds=10)


async def test_an_organization_token_acts_for_the_organization() -> None:
    token = mint(
        SECRET,
        issuer=ISSUER,
        audience=AUDIENCE,
        subject="ada",
        organization=True,
        lifetime=SOON,
    )
    caller = await SHARED.caller(token)
    assert caller.store == ORGANIZATION
    assert caller.scopes == EVERY_SCOPE


@pytest.mark.parametrize(
    "nonsense",
    [
        {"store": None},
        {"organization": True},
        {"store": "@organization"},
        {"store": ""},
        {"subject": ""},
        {"lifetime": timedelta(days=999_999_999)},
        {"secret": SECRET[1:]},
    ],
)
def test_a_token_that_would_be_refused_is_not_minted(nonsense: dict[str, Any]) -> None:
    arguments: dict[str, Any] = {
        "store": "plants",
        "subject": "ada",
        "lifetime": SOON,
        "secret": SECRET,
    } | nonsense
    with pytest.raises(ValueError, match=r"\.$"):
        mint(arguments.pop("secret"), issuer=ISSUER, audience=AUDIENCE, **arguments)


@pytest.mark.parametrize(
    ("changed", "scopes"),
    [
        ({}, set()),
        ({"scope": ""}, set()),
        ({"scope": "jobs:read"}, {"jobs:read"}),
        ({"scope": "jobs:read  hierarchies:read"}, {"jobs:read", "hierarchies:read"}),
        ({"scope": "openid jobs:read email"}, {"jobs:read"}),
        ({"scope": "JOBS:READ jobs jobs:readx"}, set()),
        ({"scope": ["hierarchies:write"]}, {"hierarchies:read", "hierarchies:write"}),
        ({"scopes": ["jobs:write", "other"]}, {"jobs:read", "jobs:write"}),
        ({"scope": "", "scopes": ["jobs:write"]}, set()),
    ],
)
async def test_scopes_are_a_string_or_a_list_and_unknown_ones_are_ignored(
    changed: dict[str, Any], scopes: set[str]
) -> None:
    assert (await SHARED.caller(signed(**changed))).scopes == scopes


@pytest.mark.parametrize(
    "changed",
    [
        {"aud": ["other", AUDIENCE]},
        {"store": "a" * 255},
        {"store": "Größe 7"},
        {"organization": False},
        {"sub": "x" * MAX_SUBJECT_LENGTH},
        {"exp": In(300.5)},
        {"exp": In(-5)},
        {"nbf": In(5)},
        {"iat": In(0)},
        {"else": {"deep": [1, 2]}},
    ],
)
async def test_unusual_but_valid_claims_are_accepted(changed: dict[str, Any]) -> None:
    assert (await SHARED.caller(signed(**changed))).store == changed.get("store", "plants")


# Tokens as identity providers mint them

PROVIDERS: dict[str, tuple[ClaimNames, dict[str, Any], set[str]]] = {
    "Okta, access token": (
        ClaimNames(),
        {"ver": 1, "cid": "0oa1", "uid": "00u1", "scp": ["openid", "jobs:read"]},
        {"jobs:read"},
    ),
    "Entra, delegated": (
        ClaimNames(("scp", "roles"), "tid"),
        {"ver": "2.0", "tid": "plants", "azp": "1", "scp": "jobs:read", "roles": ["jobs:write"]},
        {"jobs:read"},
    ),
    "Entra, of an application": (
        ClaimNames(("scp", "roles"), "tid"),
        {"ver": "2.0", "tid": "plants", "azp": "1", "idtyp": "app", "roles": ["jobs:read"]},
        {"jobs:read"},
    ),
    "Auth0 with permissions": (
        ClaimNames(("permissions",), "https://shop.example/store"),
        {
            "azp": "1",
            "scope": "openid profile",
            "permissions": ["jobs:read"],
            "https://shop.example/store": "plants",
            "aud": [AUDIENCE, "https://tenant.eu.auth0.com/userinfo"],
        },
        {"jobs:read"},
    ),
    "Keycloak with client roles": (
        ClaimNames(("resource_access.jobs.gateway.roles",), "shop.store"),
        {
            "aud": [AUDIENCE, "account"],
            "scope": "openid email profile",
            "realm_access": {"roles": ["offline_access", "jobs:write"]},
            "resource_access": {
                "account": {"roles": ["view-profile"]},
                "jobs.gateway": {"roles": ["jobs:read"]},
            },
            "shop": {"store": "plants"},
        },
        {"jobs:read"},
    ),
}


@pytest.mark.parametrize(("names", "minted", "scopes"), PROVIDERS.values(), ids=PROVIDERS)
async def test_tokens_of_identity_providers_are_read(
    names: ClaimNames, minted: dict[str, Any], scopes: set[str]
) -> None:
    authentication = BearerTokens(
        {ISSUER: SharedSecret(SECRET)}, audiences=["other", AUDIENCE], names=names
    )
    store = {} if names.store == "store" else {"store": None}
    caller = await authentication.caller(signed(**minted, **store))
    assert caller.store == "plants"
    assert caller.scopes == scopes


async def test_a_token_without_the_named_claims_has_no_scope_and_no_store() -> None:
    names = ClaimNames(("resource_access.gateway.roles",), "shop.store")
    authentication = BearerTokens({ISSUER: SharedSecret(SECRET)}, audiences=[AUDIENCE], names=names)
    everything = {"scope": "jobs:write", "resource_access": {"gateway": "jobs:write"}}
    sentence = await refusal(authentication, signed(**everything))
    assert sentence.startswith("The token must have a shop.store, or organization: true")
    caller = await authentication.caller(signed(**everything, shop={"store": "plants"}))
    assert caller.scopes == set()


async def test_each_issuer_is_accepted_with_its_own_keys_only(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    one, two = "https://one.example", "https://two.example"
    authentication = BearerTokens(
        {
            one: JwksKeys(saved(folders[0], public(RSA, kid="k"))),
            two: JwksKeys(saved(folders[1], public(OTHER_RSA, kid="k"))),
        },
        audiences=[AUDIENCE],
    )

    def signed_for(issuer: str, key: PrivateKey) -> str:
        return jwt.encode(claims(iss=issuer), key, "RS256", {"kid": "k"})

    for issuer, key in ((one, RSA), (two, OTHER_RSA)):
        assert (await authentication.caller(signed_for(issuer, key))).subject == "ada"
    for issuer, key in ((one, OTHER_RSA), (two, RSA)):
        assert await refusal(authentication, signed_for(issuer, key)) == "The token is not valid."
    for other in ("https://three.example", None):
        token = jwt.encode(claims(iss=other), RSA, "RS256", {"kid": "k"})
        assert "another issuer (iss)" in await refusal(authentication, token)


async def test_several_issuers_may_share_a_key_set(tmp_path: Path) -> None:
    keys = JwksKeys(saved(tmp_path, {**public(RSA, kid="k"), "x5t": "k"}))
    issuers = ("https://login.example/v1", "https://login.example/v2")
    authentication = BearerTokens(dict.fromkeys(issuers, keys), audiences=[AUDIENCE])
    for issuer in issuers:
        token = jwt.encode(claims(iss=issuer), RSA, "RS256", {"kid": "k", "typ": "at+jwt"})
        assert (await authentication.caller(token)).subject == "ada"


# Refused tokens


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"exp": In(-60)}, "The token has expired."),
        ({"nbf": In(600)}, "The token is not valid yet."),
        ({"iat": In(600)}, "The token is not valid yet."),
        ({"iss": "https://other.example"}, "The token is from another issuer (iss)"),
        ({"iss": [ISSUER]}, "The token is from another issuer (iss)"),
        ({"aud": "other"}, "The token is meant for another audience (aud)."),
        ({"aud": ["other"]}, "The token is meant for another audience (aud)."),
        ({"aud": {AUDIENCE: 1}}, "The token is meant for another audience (aud)."),
        ({"exp": None}, "The token lacks the claim exp."),
        ({"iss": None}, "The token lacks the claim iss."),
        ({"aud": None}, "The token lacks the claim aud."),
        ({"aud": []}, "The token lacks the claim aud."),
        ({"sub": None}, "The token lacks the claim sub."),
        ({"sub": 7}, "The token is not valid."),
        ({"sub": ""}, "The token's subject (sub)"),
        ({"sub": "x" * (MAX_SUBJECT_LENGTH + 1)}, "The token's subject (sub)"),
        ({"sub": "a\nb"}, "The token's subject (sub)"),
        ({"sub": "\ud800"}, "The token's subject (sub)"),
        ({"exp": "9999999999"}, "The token's expiry (exp)"),
        ({"exp": True}, "The token has expired."),
        ({"exp": 1e300}, "The token's expiry (exp)"),
        ({"exp": 10**18}, "The token's expiry (exp)"),
        ({"exp": 253402300799}, "The token's expiry (exp)"),
        ({"exp": []}, "The token is not valid."),
        ({"exp": float("inf")}, "The token is not valid."),
        ({"exp": float("nan")}, "The token is not valid."),
        ({"store": None}, "The token must have a store, or organization: true, and not both."),
        ({"organization": True}, "The token must have a store, or organization: true"),
        ({"store": None, "organization": 1}, "The token must have a store, or organization: true"),
        ({"store": None, "organization": "true"}, "The token must have a store, or organization"),
        ({"store": ["plants"]}, "The token must have a store, or organization: true"),
        ({"store": ORGANIZATION}, "No store can have a name that begins with @."),
        ({"store": ""}, "The name of a store can not be empty."),
        ({"store": " plants"}, "The name of a store cannot begin or end with a blank."),
        ({"store": "a\x00"}, "The name of a store can only have printable characters."),
        ({"store": "a" * 256}, "The store's name has 256 characters"),
        ({"scope": 7}, "The token's scope"),
        ({"scope": {"jobs:read": True}}, "The token's scope"),
        ({"scopes": [["jobs:read"]]}, "The token's scope"),
    ],
)
async def test_a_signed_token_with_invalid_claims_is_refused(
    changed: dict[str, Any], sentence: str
) -> None:
    token = raw({"alg": "HS256"}, claims(**changed))
    assert (await refusal(SHARED, token)).startswith(sentence)


async def test_a_missing_token_is_refused_with_a_request_for_one() -> None:
    assert await refusal(SHARED, None) == "Authentication required: send a bearer token."


async def test_a_token_that_is_too_long_is_refused_unread() -> None:
    fits = signed(pad="x" * 5000)
    too_long = signed(pad="x" * 8000)
    assert len(fits) <= MAX_TOKEN_BYTES < len(too_long)
    assert (await SHARED.caller(fits)).subject == "ada"
    assert await refusal(SHARED, too_long) == "The token is longer than 8,192 bytes."


NESTED = b'{"a":' + b"[" * 2900 + b"]" * 2900 + b"}"


@pytest.mark.parametrize(
    "token",
    [
        "",
        ".",
        "..",
        "a.b.c",
        "\ud800.b.c",
        "ü.b.c",
        signed()[:-4] + "AAAA",
        signed() + "A",
        signed() + ".",
        signed().replace(".", "..", 1),
        jwt.encode(claims(), SECRET[::-1], "HS256"),
        raw({"alg": "HS256"}, b"[]"),
        raw({"alg": "HS256"}, b"null"),
        raw({"alg": "HS256"}, b"\xff\xfe"),
        raw({"alg": "HS256"}, NESTED),
        raw(NESTED, claims()),
        raw({"alg": "HS256"}, b'{"exp":' + b"9" * 5000 + b"}"),
        raw([], claims()),
        raw({}, claims()),
        raw({"alg": ["HS256"]}, claims()),
        raw({"alg": "HS256", "kid": 7}, claims()),
        raw({"alg": "HS256", "crit": ["exp"], "exp": 1}, claims()),
        raw({"alg": "HS256", "b64": False, "crit": ["b64"]}, claims()),
    ],
)
async def test_anything_but_a_signed_token_is_not_valid(token: str) -> None:
    assert await refusal(SHARED, token) == "The token is not valid."


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
CLAIM = st.sampled_from(
    ["iss", "aud", "sub", "exp", "nbf", "iat", "jti", "store", "organization", "scope", "scopes"]
)


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(CLAIM, JSON, max_size=4), st.dictionaries(st.text(), JSON, max_size=2))
def test_a_token_with_any_claims_is_accepted_or_refused(
    standard: dict[str, Any], extra: dict[str, Any]
) -> None:
    claimed = {**extra, **claims(), **standard}
    try:
        caller = asyncio.run(SHARED.caller(raw({"alg": "HS256"}, claimed)))
    except Unauthenticated:
        return
    assert caller.subject == claimed["sub"]
    assert caller.store == (
        ORGANIZATION if claimed.get("organization") is True else claimed["store"]
    )


@settings(deadline=None, max_examples=300)
@given(
    st.text()
    | st.builds(lambda *parts: ".".join(parts), st.text(), st.text(), st.text())
    | st.builds(raw, JSON | st.binary(), JSON | st.binary())
    | st.builds(
        lambda header: raw({"alg": "HS256", **header}, claims()),
        st.dictionaries(st.sampled_from(["kid", "crit", "b64", "typ", "cty", "zip"]), JSON),
    ),
)
def test_any_token_is_accepted_or_refused(token: str) -> None:
    try:
        outcome = asyncio.run(SHARED.caller(token)).subject
    except Unauthenticated as refused:
        outcome = str(refused)
    assert outcome in {"ada", "The token is not valid.", "The token is longer than 8,192 bytes."}


# Algorithms


def test_a_short_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="needs at least 32 bytes, and this one has 31"):
        SharedSecret(SECRET[1:])
    SharedSecret("ü" * 16)


def test_a_public_key_is_no_secret() -> None:
    with pytest.raises(ValueError, match="is a key or certificate"):
        SharedSecret(pem(RSA).decode())


def pem(key: PrivateKey) -> bytes:
    return key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.parametrize(
    "token",
    [
        jwt.encode(claims(), "", "none"),
        raw({"alg": "none"}, claims()),
        raw({"alg": "NONE"}, claims()),
        jwt.encode(claims(), SECRET * 2, "HS512"),
        jwt.encode(claims(), SECRET * 2, "HS384"),
        signed_by(RSA),
        signed_by(EC),
    ],
)
async def test_a_shared_secret_is_for_hs256_alone(token: str) -> None:
    assert await refusal(SHARED, token) == "The token is not valid."


@pytest.mark.parametrize("key", [RSA, EC], ids=["RS256", "ES256"])
async def test_a_key_set_is_for_rs256_and_es256(key: PrivateKey, tmp_path: Path) -> None:
    authentication = trusting(JwksKeys(saved(tmp_path, public(key, kid="one"))))
    assert (await authentication.caller(signed_by(key, "one"))).subject == "ada"


@pytest.mark.parametrize("key", [RSA, EC], ids=["RSA", "EC"])
async def test_a_public_key_does_not_serve_as_a_secret(key: PrivateKey, tmp_path: Path) -> None:
    jwk = public(key, kid="one")
    authentication = trusting(JwksKeys(saved(tmp_path, jwk)))
    for secret in (pem(key), pem(key).strip(), json.dumps(jwk).encode(), b""):
        for header in ({"alg": "HS256", "kid": "one"}, {"alg": "HS256", "kid": "one", "jwk": jwk}):
            assert await refusal(authentication, raw(header, claims(), secret)) == (
                "The token is not valid."
            )


@pytest.mark.parametrize(
    "token",
    [
        jwt.encode(claims(), "", "none", {"kid": "rsa"}),
        signed_by(RSA, "rsa", "RS384"),
        signed_by(RSA, "rsa", "RS512"),
        signed_by(RSA, "rsa", "PS256"),
        signed_by(RSA, "ec"),
        signed_by(EC, "rsa"),
        signed_by(OTHER_RSA, "rsa"),
        raw({"alg": "RS256", "kid": "rsa"}, claims()),
        raw({"alg": "ES256", "kid": "ec"}, claims()),
    ],
)
async def test_any_other_algorithm_or_key_is_refused(token: str, tmp_path: Path) -> None:
    path = saved(tmp_path, public(RSA, kid="rsa"), public(EC, kid="ec"))
    assert await refusal(trusting(JwksKeys(path)), token) == "The token is not valid."


async def test_a_token_cannot_bring_its_own_key(tmp_path: Path, issuer: Issuer) -> None:
    issuer.publish(public(OTHER_RSA, kid="one"))
    authentication = trusting(JwksKeys(saved(tmp_path, public(RSA, kid="one"))))
    header = {"kid": "one", "jku": issuer.url, "x5u": issuer.url, "jwk": public(OTHER_RSA)}
    token = jwt.encode(claims(), OTHER_RSA, "RS256", header)
    assert await refusal(authentication, token) == "The token is not valid."
    assert issuer.requests == 0


# Which key


async def test_without_a_kid_the_only_key_is_used(tmp_path: Path) -> None:
    unusable = public(OTHER_RSA, use="enc")
    authentication = trusting(JwksKeys(saved(tmp_path, unusable, public(RSA, kid="one"))))
    assert (await authentication.caller(signed_by(RSA))).subject == "ada"


async def test_without_a_kid_none_of_several_keys_is_used(tmp_path: Path) -> None:
    path = saved(tmp_path, public(RSA, kid="one"), public(EC, kid="two"))
    authentication = trusting(JwksKeys(path))
    assert "does not name a known key" in await refusal(authentication, signed_by(RSA))


@pytest.mark.parametrize(
    "jwk",
    [
        public(RSA, alg="RS512"),
        public(RSA, alg="HS256"),
        public(RSA, alg="none"),
        public(RSA, alg="ES256"),
        public(RSA, use="enc"),
        public(RSA, key_ops=["encrypt"]),
        public(RSA, key_ops="verify"),
        public(RSA, n=7),
        public(RSA, n="!"),
        public(RSA, e="AA"),
        public(RSA, kty="EC"),
        public(RSA, kty=["RSA"]),
        public(WEAK_RSA),
        RSAAlgorithm.to_jwk(RSA, as_dict=True),
        public(P384),
        public(EC, alg="ES384"),
        public(EC, kty="RSA"),
        public(EC, crv=None),
        public(EC, x=public(EC)["y"]),
        ECAlgorithm.to_jwk(EC, as_dict=True),
        {"kty": "oct", "k": base64.urlsafe_b64encode(SECRET.encode()).decode()},
        {"kty": "OKP", "crv": "Ed25519", "x": "A" * 43},
        {},
        "key",
        None,
    ],
)
def test_an_unsuitable_key_is_ignored(jwk: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a JWKS with a public key"):
        JwksKeys(saved(tmp_path, jwk))


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        JSON
        | st.dictionaries(
            st.sampled_from(["kty", "kid", "alg", "use", "key_ops", "crv", "n", "e", "x", "y"]),
            JSON | st.sampled_from(["RSA", "EC", "P-256", "AQAB", "sig", "RS256"]),
        )
        | st.builds(lambda key: public(RSA) | key, st.dictionaries(st.sampled_from("ne"), JSON))
        | st.builds(lambda key: public(EC) | key, st.dictionaries(st.sampled_from("xy"), JSON)),
        max_size=4,
    )
)
def test_a_good_key_works_in_a_set_with_any_other_keys(
    tmp_path_factory: pytest.TempPathFactory, keys: list[Any]
) -> None:
    path = saved(tmp_path_factory.getbasetemp(), *keys, public(OTHER_RSA, kid="good"))
    authentication = trusting(JwksKeys(path))
    assert asyncio.run(authentication.caller(signed_by(OTHER_RSA, "good"))).subject == "ada"


# Files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "No such file"),
        (b"", "Expecting value"),
        (b"{", "Expecting"),
        (b"\xff\xff", "codec"),
        (b"[" * 100_000, "recursion"),
        (b"null", "not a JWKS"),
        (b"[]", "not a JWKS"),
        (b'{"keys": 7}', "not a JWKS"),
        (b'{"keys": []}', "not a JWKS"),
        (b" " * (MAX_KEY_SET_BYTES + 1), "more than 262,144 bytes"),
    ],
)
def test_an_invalid_key_set_file_is_refused_naming_its_path(
    content: bytes | None, words: str, tmp_path: Path
) -> None:
    file = tmp_path / "jwks.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        JwksKeys(str(file))
    assert str(file) in str(caught.value)


def test_a_folder_is_no_key_set(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Is a directory"):
        JwksKeys(str(tmp_path))


async def test_a_file_is_read_again_for_an_unknown_kid(tmp_path: Path, clock: Clock) -> None:
    authentication = trusting(JwksKeys(saved(tmp_path, public(RSA, kid="old")), clock=clock))
    saved(tmp_path, public(EC, kid="new"))
    assert "a known key" in await refusal(authentication, signed_by(EC, "new"))
    clock.now += MIN_LOAD_INTERVAL_SECONDS
    assert (await authentication.caller(signed_by(EC, "new"))).subject == "ada"
    assert "a known key" in await refusal(authentication, signed_by(RSA, "old"))


async def test_a_key_removed_from_a_file_is_forgotten(tmp_path: Path, clock: Clock) -> None:
    keys = JwksKeys(saved(tmp_path, public(RSA, kid="old")), clock=clock)
    authentication = trusting(keys)
    saved(tmp_path, public(EC, kid="new"))
    clock.now += REFRESH_SECONDS
    assert (await authentication.caller(signed_by(RSA, "old"))).subject == "ada"
    await loaded(keys)
    assert "a known key" in await refusal(authentication, signed_by(RSA, "old"))


async def test_a_broken_file_keeps_the_known_keys(
    tmp_path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    path = saved(tmp_path, public(RSA, kid="one"))
    keys = JwksKeys(path, clock=clock)
    authentication = trusting(keys)
    broken(path)
    clock.now += REFRESH_SECONDS
    for _ in range(3):
        assert (await authentication.caller(signed_by(RSA, "one"))).subject == "ada"
    await loaded(keys)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert path in record.getMessage()


# URLs


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://issuer.example/jwks.json", "must be https"),
        ("http://127.0.0.1.issuer.example/jwks.json", "must be https"),
        ("http://10.0.0.1/jwks.json", "must be https"),
        ("HTTP://issuer.example", "must be https"),
        ("https://", "needs a host"),
        ("https:///jwks.json", "needs a host"),
        ("https://ada:secret@issuer.example/", "without user and password"),
    ],
)
def test_an_untrustworthy_key_url_is_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        JwksKeys(url)


@pytest.mark.parametrize(
    "url",
    ["https://issuer.example/a", "http://localhost:9/a", "http://127.0.0.9/a", "http://[::1]:9/a"],
)
def test_a_url_is_not_requested_before_it_is_needed(url: str) -> None:
    JwksKeys(url)


async def test_a_url_is_requested_at_first_use_and_again_when_its_keys_are_old(
    issuer: Issuer, clock: Clock
) -> None:
    issuer.publish(public(RSA, kid="one"))
    keys = JwksKeys(issuer.url, clock=clock)
    authentication = trusting(keys)
    assert issuer.requests == 0
    for _ in range(3):
        assert (await authentication.caller(signed_by(RSA, "one"))).subject == "ada"
    assert issuer.requests == 1
    clock.now += REFRESH_SECONDS - 1
    await authentication.caller(signed_by(RSA, "one"))
    assert issuer.requests == 1
    clock.now += 1
    await authentication.caller(signed_by(RSA, "one"))
    await loaded(keys)
    assert issuer.requests == 2


async def test_a_rotated_key_is_loaded_by_its_kid(issuer: Issuer, clock: Clock) -> None:
    issuer.publish(public(RSA, kid="old"))
    authentication = trusting(JwksKeys(issuer.url, clock=clock))
    await authentication.caller(signed_by(RSA, "old"))
    issuer.publish(public(RSA, kid="old"), public(EC, kid="new"))
    clock.now += MIN_LOAD_INTERVAL_SECONDS
    assert (await authentication.caller(signed_by(EC, "new"))).subject == "ada"
    assert (await authentication.caller(signed_by(RSA, "old"))).subject == "ada"
    assert issuer.requests == 2


async def test_many_unknown_kids_cause_one_request_per_thirty_seconds(
    issuer: Issuer, clock: Clock
) -> None:
    issuer.publish(public(RSA, kid="one"))
    authentication = trusting(JwksKeys(issuer.url, clock=clock))
    await authentication.caller(signed_by(RSA, "one"))
    for second in range(MIN_LOAD_INTERVAL_SECONDS * 3):
        clock.now += 1
        await asyncio.gather(
            *(refusal(authentication, signed_by(EC, f"no{second}-{no}")) for no in range(5))
        )
    assert issuer.requests == 1 + 3


async def test_concurrent_callers_share_one_request(issuer: Issuer, clock: Clock) -> None:
    issuer.publish(public(RSA, kid="one"))
    issuer.may_respond.clear()
    authentication = trusting(JwksKeys(issuer.url, clock=clock))
    token = signed_by(RSA, "one")
    first = asyncio.create_task(authentication.caller(token))
    await asyncio.to_thread(issuer.was_requested.wait, 30)
    waiting = asyncio.gather(*(authentication.caller(token) for _ in range(50)))
    # The caller that caused the request is cancelled; the others must not notice.
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    issuer.may_respond.set()
    assert {caller.subject for caller in await waiting} == {"ada"}
    assert issuer.requests == 1


def _answers(status: int = 200, body: bytes = b"", **headers: str) -> Callable[[Issuer], None]:
    def change(issuer: Issuer) -> None:
        issuer.status, issuer.headers = status, headers
        issuer.body = body or key_set(public(EC, kid="new"))

    return change


FAILURES = {
    "status": (_answers(500), "the response has status 500"),
    "no content": (_answers(404, b"none"), "the response has status 404"),
    "redirect": (_answers(302, Location="/other"), "the response has status 302"),
    "html": (_answers(body=b"<html>"), "Expecting value"),
    "no keys": (_answers(body=b'{"keys": []}'), "not a JWKS"),
    "too long": (_answers(body=b" " * (MAX_KEY_SET_BYTES + 1)), "more than 262,144 bytes"),
}


@pytest.mark.parametrize(("change", "reason"), FAILURES.values(), ids=FAILURES)
async def test_while_the_url_fails_the_known_keys_stay_valid(
    change: Callable[[Issuer], None],
    reason: str,
    issuer: Issuer,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    issuer.publish(public(RSA, kid="one"))
    authentication = trusting(JwksKeys(issuer.url, clock=clock))
    await authentication.caller(signed_by(RSA, "one"))
    change(issuer)
    clock.now += REFRESH_SECONDS
    for _ in range(3):
        assert (await authentication.caller(signed_by(RSA, "one"))).subject == "ada"
    assert "a known key" in await refusal(authentication, signed_by(EC, "new"))
    assert issuer.requests == 2
    (record,) = caplog.records
    assert reason in record.getMessage()

    issuer.status, issuer.headers = 200, {}
    issuer.publish(public(EC, kid="new"))
    clock.now += MIN_LOAD_INTERVAL_SECONDS
    assert (await authentication.caller(signed_by(EC, "new"))).subject == "ada"


async def test_without_keys_every_token_is_refused_until_keys_are_loaded(
    issuer: Issuer, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    issuer.status = 503
    authentication = trusting(JwksKeys(issuer.url, clock=clock))
    for _ in range(3):
        await unavailable(authentication, signed_by(RSA, "one"))
    assert issuer.requests == len(caplog.records) == 1
    issuer.status = 200
    issuer.publish(public(RSA, kid="one"))
    clock.now += MIN_LOAD_INTERVAL_SECONDS
    assert (await authentication.caller(signed_by(RSA, "one"))).subject == "ada"


async def test_an_unreachable_issuer_is_logged(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    unreachable = Issuer()
    unreachable.server.server_close()
    await unavailable(trusting(JwksKeys(unreachable.url, clock=clock)), signed_by(RSA, "one"))
    (record,) = caplog.records
    assert "Connection refused" in record.getMessage()
    assert unreachable.url in record.getMessage()


async def test_an_issuer_that_never_responds_times_out(
    issuer: Issuer,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jwks, "LOAD_TIMEOUT_SECONDS", 0.1)
    issuer.may_respond.clear()
    await unavailable(trusting(JwksKeys(issuer.url, clock=clock)), signed_by(RSA, "one"))
    (record,) = caplog.records
    assert issuer.url in record.getMessage()
    assert "did not respond within 0.1 s" in record.getMessage()


async def test_an_issuer_that_drips_its_answer_is_given_up_without_a_thread_left(
    clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "LOAD_TIMEOUT_SECONDS", 0.2)
    closed = asyncio.Event()

    async def drip(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        with suppress(ConnectionError):
            while not writer.is_closing():
                writer.write(b" ")
                await writer.drain()
                await asyncio.sleep(0.01)
        closed.set()

    server = await asyncio.start_server(drip, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        keys = JwksKeys(f"http://127.0.0.1:{port}/", clock=clock)
        threads = threading.active_count()
        await unavailable(trusting(keys), signed_by(RSA, "one"))
        await asyncio.wait_for(closed.wait(), 30)
    assert threading.active_count() == threads
    (record,) = caplog.records
    assert "did not respond within 0.2 s" in record.getMessage()


async def test_a_hanging_issuer_never_delays_tokens_of_known_keys(
    issuer: Issuer, clock: Clock
) -> None:
    issuer.publish(public(RSA, kid="one"))
    keys = JwksKeys(issuer.url, clock=clock)
    authentication = trusting(keys)
    await authentication.caller(signed_by(RSA, "one"))
    issuer.may_respond.clear()
    clock.now += REFRESH_SECONDS
    for _ in range(3):
        assert (await authentication.caller(signed_by(RSA, "one"))).subject == "ada"
    # The answer of the issuer is still due.
    assert keys._loading
    assert not keys._loading.done()
    issuer.may_respond.set()
    await loaded(keys)


async def test_no_key_is_accepted_after_its_maximum_age_until_it_is_loaded_again(
    issuer: Issuer, clock: Clock
) -> None:
    issuer.publish(public(RSA, kid="one"))
    keys = JwksKeys(issuer.url, max_age_seconds=600, clock=clock)
    authentication = trusting(keys)
    token = signed_by(RSA, "one")
    await authentication.caller(token)
    issuer.status = 503
    clock.now += 599
    await authentication.caller(token)
    await loaded(keys)
    assert (await authentication.caller(token)).subject == "ada"
    clock.now += 1
    await unavailable(authentication, token)
    issuer.status = 200
    clock.now += MIN_LOAD_INTERVAL_SECONDS
    assert (await authentication.caller(token)).subject == "ada"


async def test_a_file_that_cannot_be_read_any_more_ages_like_a_url(
    tmp_path: Path, clock: Clock
) -> None:
    path = saved(tmp_path, public(RSA, kid="one"))
    authentication = trusting(JwksKeys(path, clock=clock))
    broken(path)
    clock.now += MAX_AGE_SECONDS
    await unavailable(authentication, signed_by(RSA, "one"))


async def test_a_url_with_a_secret_is_shown_without_it(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="without user and password") as caught:
        JwksKeys("https://ada:s3cret@issuer.example/keys")
    assert "s3cret" not in str(caught.value)
    for location in ("postgresql://ada:s3cret@host/db", "https//ada:s3cret@host"):
        with pytest.raises(ValueError, match="No such file") as caught:
            JwksKeys(location)
        assert "s3cret" not in str(caught.value)
    keys = JwksKeys("http://127.0.0.1:9/keys?token=s3cret", clock=clock)
    await unavailable(trusting(keys), signed_by(RSA, "one"))
    (record,) = caplog.records
    assert "http://127.0.0.1:9/keys?***" in record.getMessage()
    assert "s3cret" not in record.getMessage()


@pytest.fixture
def forged(issuer: Issuer, tmp_path: Path) -> str:
    """Return the host and path of an issuer whose certificate no authority has signed."""
    key, name = tmp_path / "key.pem", tmp_path / "certificate.pem"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(subject, subject, RSA.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(RSA, hashes.SHA256())
    )
    name.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key.write_bytes(
        RSA.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(name, key)
    issuer.server.socket = context.wrap_socket(issuer.server.socket, server_side=True)
    issuer.publish(public(RSA, kid="one"))
    return issuer.url.removeprefix("http://")


@pytest.mark.parametrize("scheme", ["https", "HTTPS"])
async def test_the_certificate_of_an_issuer_is_verified(
    scheme: str, forged: str, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    keys = JwksKeys(f"{scheme}://{forged}", clock=clock)
    await unavailable(trusting(keys), signed_by(RSA, "one"))
    (record,) = caplog.records
    assert "certificate" in record.getMessage().lower()


async def test_a_loopback_issuer_is_requested_without_a_proxy(
    issuer: Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Issuer()
    proxy.server.server_close()
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.delenv("no_proxy", raising=False)
    issuer.publish(public(RSA, kid="one"))
    assert (await trusting(JwksKeys(issuer.url)).caller(signed_by(RSA, "one"))).subject == "ada"
