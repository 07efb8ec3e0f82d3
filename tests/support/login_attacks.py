"""Attacks on logins: guessed secrets from many addresses, which each cost a hash."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from itertools import count

from tests.support.attacks import SECONDS
from tests.support.clients import http_client
from tests.support.registered_clients import CREDENTIALS, log_in

GUESSERS = 50
"""Concurrent guessers, each with a new address per guess."""


@dataclass
class Guesses:
    """The statuses of guesses, and of the logins of a client meanwhile."""

    guesses: Counter[int] = field(default_factory=Counter)
    logins: Counter[int] = field(default_factory=Counter)


def guess_secrets(url: str) -> Guesses:
    """Guess secrets of known and unknown clients; a client logs in again and again."""
    return asyncio.run(_guess(url))


async def _guess(url: str) -> Guesses:
    guesses, numbers = Guesses(), count()

    async def log_in_again() -> None:
        response = await log_in(http, CREDENTIALS, address="127.0.0.3")
        guesses.logins[response.status_code] += 1

    async def guess() -> None:
        number = next(numbers)
        form = {**CREDENTIALS, "client_secret": f"guess {number}"}
        if number % 2:
            form["client_id"] = f"unknown-{number}"
        address = f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"
        guesses.guesses[(await log_in(http, form, address=address)).status_code] += 1

    async with http_client(url) as http:
        await log_in_again()
        end = time.monotonic() + SECONDS

        async def repeat(request: Callable[[], Awaitable[None]]) -> None:
            while time.monotonic() < end:
                await request()

        await asyncio.gather(repeat(log_in_again), *(repeat(guess) for _ in range(GUESSERS)))
    return guesses
