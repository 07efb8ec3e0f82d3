"""What every resolver knows: the services, and on whose behalf it runs."""

from dataclasses import dataclass

import strawberry

from app.services.feed import Feed
from app.services.jobs import Requester
from app.storage.database import Database


@dataclass(frozen=True, slots=True)
class Context:
    """The services and the caller of one request or one socket."""

    database: Database
    feed: Feed
    requester: Requester

    @property
    def store(self) -> str:
        """The store whose things the caller sees."""
        return self.requester.store


Info = strawberry.Info[Context, None]
