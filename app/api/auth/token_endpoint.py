"""The token endpoint, at which the vendor's clients log in: POST /oauth/access_token."""

import asyncio
import base64
import re
from collections.abc import Collection
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote_plus

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from app.api.auth.access import Access
from app.api.auth.login import (
    TOKEN_LIFETIME,
    GrantType,
    Login,
    LoginErrorCode,
    LoginRefused,
    LoginRequest,
)
from app.api.http.middleware.body_limit import BODY_SECONDS
from app.api.http.origins import address_of, is_same_origin
from app.api.http.refusals import BadRequest, ForeignPage
from app.api.http.request_log import request_record

TOKEN_PATH = "/oauth/access_token"

MAX_FORM_BYTES = 8 * 1024
MAX_FORM_FIELDS = 32

_FORM = "application/x-www-form-urlencoded"
_BASIC = re.compile(r"basic +([A-Za-z0-9+/]+=*)", re.IGNORECASE | re.ASCII)


class TokenEndpoint:
    """ASGI endpoint that issues bearer tokens (RFC 6749, section 3.2).

    Errors have the members of RFC 6749 and those of the REST API. `origins`: other origins whose
    pages may log in.
    """

    def __init__(self, login: Login, access: Access, origins: Collection[str]) -> None:
        self._login = login
        self._access = access
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._response(Request(scope, receive))
        except BadRequest as refusal:
            response = login_refusal(refusal)
        except ClientDisconnect:
            # While its body was read: there is no client to respond to.
            return
        await response(scope, receive, send)

    async def _response(self, request: Request) -> Response:
        if request.method != "POST":
            raise BadRequest("Clients log in with POST.", status=405, headers={"Allow": "POST"})
        if not is_same_origin(request.headers, self._origins):
            raise ForeignPage
        address = address_of(request)
        try:
            login_request = _parse(
                await _read_form(request), _basic_credentials(request.headers.get("authorization"))
            )
            issued = await self._login.token(login_request, address)
        except LoginRefused:
            # As for invalid tokens: an address that only fails is limited, too.
            self._access.throttle.take(address)
            raise
        self._access.throttle.take(self._access.client(issued.caller, address))
        request_record().caller = issued.caller
        document: dict[str, object] = {
            "access_token": issued.token,
            "token_type": "Bearer",
            "expires": issued.expires,
            "expires_in": int(TOKEN_LIFETIME.total_seconds()),
            "identifier": login_request.grant_type,
        }
        if login_request.scopes:
            document["scope"] = " ".join(sorted(issued.caller.scopes))
        return JSONResponse(document, headers=_NOT_STORED)


_NOT_STORED = {"Cache-Control": "no-store", "Pragma": "no-cache"}
"""RFC 6749, section 5.1."""


def login_refusal(refusal: BadRequest) -> Response:
    """Build the response to a login without a token."""
    message = str(refusal.errors[0]["message"])
    if isinstance(refusal, LoginRefused):
        error = refusal.error
    elif refusal.status == HTTPStatus.TOO_MANY_REQUESTS:
        error = LoginErrorCode.TEMPORARILY_UNAVAILABLE
    else:
        error = LoginErrorCode.INVALID_REQUEST
    title = HTTPStatus(refusal.status).phrase
    document = {
        "error": error,
        "error_description": message,
        # The vendor's clients show these.
        "errors": [{"status": str(refusal.status), "title": title, "detail": message}],
    }
    return JSONResponse(document, refusal.status, {**refusal.headers, **_NOT_STORED})


async def _read_form(request: Request) -> dict[str, str]:
    """Read the fields of the body. Raises LoginRefused, BadRequest (408)."""
    media_type = request.headers.get("content-type", "").partition(";")[0]
    if media_type.strip().lower() != _FORM:
        raise _invalid(f"The body must be {_FORM}.")
    try:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.body()
    except TimeoutError:
        raise BadRequest(f"The body took longer than {BODY_SECONDS} seconds.", status=408) from None
    if len(body) > MAX_FORM_BYTES:
        raise _invalid(f"The body has more than {MAX_FORM_BYTES:,} bytes.")
    try:
        pairs = parse_qsl(body.decode(), errors="strict", max_num_fields=MAX_FORM_FIELDS)
    except ValueError:
        raise _invalid("The body is not a form in UTF-8, or has too many fields.") from None
    fields = dict(pairs)
    if len(fields) < len(pairs):
        raise _invalid("The body has a field more than once.")
    return fields


def _basic_credentials(header: str | None) -> tuple[str, str] | None:
    """Return the id and secret of HTTP Basic (RFC 6749, 2.3.1). Raises LoginRefused."""
    # A client may send the token of an earlier login to every path.
    if header is None or not header.strip().lower().startswith("basic"):
        return None
    try:
        if match := _BASIC.fullmatch(header.strip()):
            id, colon, secret = base64.b64decode(match[1]).decode().partition(":")
            if colon:
                return unquote_plus(id, errors="strict"), unquote_plus(secret, errors="strict")
    except ValueError:
        pass
    raise LoginRefused(
        LoginErrorCode.INVALID_CLIENT, "The Authorization header is not HTTP Basic in UTF-8."
    )


def _parse(fields: dict[str, str], basic: tuple[str, str] | None) -> LoginRequest:
    """Return the login that a form and HTTP Basic request. Raises LoginRefused."""
    match fields.get("grant_type"):
        case None:
            raise _invalid("The field grant_type is missing.")
        case GrantType.CLIENT_CREDENTIALS | GrantType.IMPLICIT as name:
            grant_type = GrantType(name)
        case _:
            raise LoginRefused(
                LoginErrorCode.UNSUPPORTED_GRANT_TYPE,
                f"Clients log in with the grant_type {' or '.join(GrantType)}.",
            )
    client_id, client_secret = fields.get("client_id"), fields.get("client_secret")
    if basic:
        if client_secret is not None or client_id not in (None, basic[0]):
            raise _invalid("The credentials are in the header and in the body.")
        client_id, client_secret = basic
    if not client_id:
        raise _invalid("The field client_id is missing.")
    scopes = frozenset(fields.get("scope", "").split())
    return LoginRequest(grant_type, client_id, client_secret, scopes)


def _invalid(message: str) -> LoginRefused:
    return LoginRefused(LoginErrorCode.INVALID_REQUEST, message)
