"""Clients that may log in: their list in a file, and the verification of their secrets."""

import asyncio
import base64
import fcntl
import hashlib
import hmac
import logging
import math
import os
import re
import secrets
import tempfile
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from app.api.http.refusals import RateLimited
from app.domain.callers import Scope
from app.domain.errors import InvalidInput
from app.domain.stores import checked_store

log = logging.getLogger(__name__)

CLIENT_ID_LENGTH = 100
CLIENT_ID = rf"[A-Za-z0-9._~-]{{1,{CLIENT_ID_LENGTH}}}"
"""Characters that every encoding of a form and of HTTP Basic leaves as they are."""

MAX_CLIENT_FILE_BYTES = 1024**2
"""A list of 3,000 clients."""

SCRYPT_COST, SCRYPT_BLOCK_SIZE = 2**14, 8
"""50 to 100 ms of one core and 16 MiB of memory per hash (RFC 7914: N and r)."""

_SCRYPT_MEMORY = 2 * 128 * SCRYPT_COST * SCRYPT_BLOCK_SIZE
"""OpenSSL needs 128 * N * r bytes and some more."""

HASH_FORMAT = f"scrypt${SCRYPT_COST}${SCRYPT_BLOCK_SIZE}$1"
"""The only accepted parameters: a cheaper hash would reveal by its time that an id is known."""

_SECRET_HASH = rf"{re.escape(HASH_FORMAT)}\$[A-Za-z0-9_-]{{22}}\$[A-Za-z0-9_-]{{43}}"

MAX_WRONG_SECRETS = 10
WINDOW_SECONDS = 10
"""Wrong secrets per address and window: a tenth of the hashes that one core computes."""

MAX_WAITING = 20
"""Secrets that wait for their hash: the last one waits 1 to 2 s."""

_VERIFIED_CACHE_SIZE = 4_096


class UnusableClients(Exception):
    """A list of clients that cannot be read, changed or written: one sentence."""


class RegisteredClient(BaseModel):
    """A client that may log in, and the store and scopes of its tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Annotated[str, Field(pattern=f"^{CLIENT_ID}$")]
    secret_hash: Annotated[str, Field(pattern=f"^{_SECRET_HASH}$")]
    store: str | None = None
    organization: bool = False
    scopes: tuple[Scope, ...] = Field(min_length=1)
    implicit: bool = False
    """Allow logins without the secret, for reading."""

    @model_validator(mode="after")
    def _check_store(self) -> Self:
        if (self.store is None) is not self.organization:
            raise ValueError("A client has a store, or organization: true, and not both.")
        if self.store is not None:
            try:
                checked_store(self.store)
            except InvalidInput as error:
                raise ValueError(str(error)) from None
        return self


class _ClientFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    clients: list[RegisteredClient]


def hash_secret(secret: str, salt: bytes) -> str:
    """Return the hash of a secret in the format of the file. `salt` has 16 bytes."""
    key = hashlib.scrypt(
        secret.encode(),
        salt=salt,
        n=SCRYPT_COST,
        r=SCRYPT_BLOCK_SIZE,
        p=1,
        maxmem=_SCRYPT_MEMORY,
        dklen=32,
    )
    return _hash_text(salt, key)


def _hash_text(salt: bytes, key: bytes) -> str:
    return f"{HASH_FORMAT}${_encode(salt)}${_encode(key)}"


def new_secret() -> tuple[str, str]:
    """Return a random secret of 256 bits, and its hash."""
    secret = secrets.token_urlsafe(32)
    return secret, hash_secret(secret, secrets.token_bytes(16))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def salt_of(secret_hash: str) -> bytes:
    """Return the salt of a hash."""
    return base64.urlsafe_b64decode(secret_hash.split("$")[4] + "==")


def is_open_to_others(path: Path) -> bool:
    """Return True if other users of this machine can read or change the file.

    Its group may read it: an edit keeps that right.
    """
    return bool(path.stat().st_mode & 0o037)


def read_clients(path: Path) -> dict[str, RegisteredClient]:
    """Read a list of clients, by id. Raises UnusableClients."""
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_CLIENT_FILE_BYTES + 1)
    except OSError as error:
        is_missing = isinstance(error, FileNotFoundError)
        hint = " `jobs-gateway client add` creates it." if is_missing else ""
        raise UnusableClients(f"{path} cannot be read: {error.strerror}.{hint}") from None
    if len(raw) > MAX_CLIENT_FILE_BYTES:
        raise UnusableClients(f"{path} has more than {MAX_CLIENT_FILE_BYTES:,} bytes.")
    try:
        clients = _ClientFile.model_validate_json(raw).clients
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(map(str, first["loc"]))
        message = first["msg"].removeprefix("Value error, ").rstrip(".")
        reason = f"{where}: {message}" if where else message
        raise UnusableClients(f"{path} is not a list of clients: {reason}.") from None
    by_id = {client.id: client for client in clients}
    if len(by_id) < len(clients):
        raise UnusableClients(f"{path} has a client twice.")
    return by_id


@contextmanager
def edit_clients(path: Path) -> Iterator[dict[str, RegisteredClient]]:
    """Yield the list of clients, by id, and write it if the block does not raise.

    A missing file is an empty list. Commands that edit one list wait for each other, and readers
    see the file before or after an edit. Raises UnusableClients.
    """
    path = path.resolve()
    try:
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise UnusableClients(f"{path} cannot be written: {error.strerror}.") from None
    try:
        # The folder, because the file is replaced; the lock ends with the descriptor.
        fcntl.flock(folder, fcntl.LOCK_EX)
        clients = read_clients(path) if path.exists() else {}
        yield clients
        _write_clients(path, clients.values())
    finally:
        os.close(folder)


def _write_clients(path: Path, clients: Iterable[RegisteredClient]) -> None:
    clients_json = _ClientFile(clients=list(clients)).model_dump_json(indent=2, exclude_none=True)
    content = f"{clients_json}\n".encode()
    if len(content) > MAX_CLIENT_FILE_BYTES:
        raise UnusableClients(f"{path} would have more than {MAX_CLIENT_FILE_BYTES:,} bytes.")
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        new = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(descriptor)
                # A new file is 0600. An earlier one keeps its owner, whose gateway reads it, and
                # the right of its group to read it.
                with suppress(OSError):
                    earlier = path.stat()
                    os.fchmod(descriptor, 0o600 | earlier.st_mode & 0o040)
                    os.fchown(descriptor, earlier.st_uid, earlier.st_gid)
            new.replace(path)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise UnusableClients(f"{path} cannot be written: {error.strerror}.") from None


class ClientRegistry:
    """The list of clients in a file, which is read again when it changes.

    A file that became unusable keeps the earlier list in force. Raises UnusableClients if it is
    unusable from the start.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._version = self._current_version()
        self._clients = self._read()

    async def find(self, id: str) -> RegisteredClient | None:
        """Return the client with this id, None if the list has none."""
        version = self._current_version()
        if version != self._version:
            self._version = version
            await asyncio.to_thread(self._reload)
        return self._clients.get(id)

    def _reload(self) -> None:
        try:
            self._clients = self._read()
        except UnusableClients as error:
            log.warning("%s The earlier list of clients stays in force.", error)

    def _read(self) -> dict[str, RegisteredClient]:
        clients = read_clients(self._path)
        with suppress(OSError):
            if is_open_to_others(self._path):
                log.warning("%s is open to other users of this machine: chmod 600", self._path)
        return clients

    def _current_version(self) -> tuple[int, ...] | None:
        try:
            file = self._path.stat()
        except OSError:
            return None
        return file.st_mtime_ns, file.st_ctime_ns, file.st_size, file.st_ino


class SecretVerifier:
    """Verifies secrets by their hashes.

    Hashes run outside of the event loop, one at a time, so that they take at most one core and
    16 MiB. A secret that was verified before needs no hash: guesses of strangers do not delay the
    clients that have logged in already. There is no limit per client id, because a stranger could
    exhaust it and lock the client out.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._key = secrets.token_bytes(32)
        self._verified: OrderedDict[bytes, None] = OrderedDict()
        """Keyed digests of hash and secret: memory dumps do not reveal secrets."""
        self._hashing: dict[bytes, asyncio.Task[bool]] = {}
        self._turn = asyncio.Semaphore(1)
        self._attempts: Counter[str] = Counter()
        """Wrong and waiting secrets by address in this window: as many as there were hashes."""
        self._window_end = -math.inf
        self._unknown = _hash_text(secrets.token_bytes(16), secrets.token_bytes(32))
        """The hash of no secret, compared with secrets of unknown clients: they cost the same."""

    async def verify(self, client: RegisteredClient | None, secret: str, address: str) -> bool:
        """Return True if `secret` is the client's; False for an unknown client (None).

        Raises RateLimited if the address, or all together, tried too many secrets.
        """
        secret_hash = client.secret_hash if client else self._unknown
        digest = hmac.digest(self._key, f"{secret_hash}\n{secret}".encode(), "sha256")
        if digest in self._verified:
            self._verified.move_to_end(digest)
            return True
        # A client may log in for several of its requests at once.
        task = self._hashing.get(digest)
        if task is None:
            self._count(address)
            task = asyncio.create_task(self._compare(secret_hash, secret, digest, address))
            self._hashing[digest] = task
        # The cancellation of one request must not end the hash for others.
        return await asyncio.shield(task)

    def _count(self, address: str) -> None:
        """Count an attempt. Raises RateLimited."""
        if len(self._hashing) >= MAX_WAITING:
            raise RateLimited("Too many logins at once.", 1)
        now = self._clock()
        if now >= self._window_end:
            self._attempts.clear()
            self._window_end = now + WINDOW_SECONDS
        if self._attempts[address] >= MAX_WRONG_SECRETS:
            raise RateLimited("Too many wrong secrets.", math.ceil(self._window_end - now))
        self._attempts[address] += 1

    async def _compare(self, secret_hash: str, secret: str, digest: bytes, address: str) -> bool:
        try:
            async with self._turn:
                hashed = await asyncio.to_thread(hash_secret, secret, salt_of(secret_hash))
        finally:
            del self._hashing[digest]
        if not hmac.compare_digest(hashed, secret_hash):
            return False
        self._attempts[address] -= 1
        self._verified[digest] = None
        if len(self._verified) > _VERIFIED_CACHE_SIZE:
            self._verified.popitem(last=False)
        return True
