"""Errors of jobs."""

from datetime import datetime

import strawberry

from app.api.graphql.types.relay import Node
from app.storage import tables


@strawberry.type(description="A reason why a job failed, or a warning it left.")
class JobError(Node):
    code: str = strawberry.field(description="Stable code for programs, such as NOT_FOUND.")
    message: str = strawberry.field(description="One sentence for people.")
    created_at: datetime = strawberry.field(description="Time the error was recorded.")

    @classmethod
    def is_type_of(cls, row: object, _info: object) -> bool:
        return isinstance(row, tables.JobErrorRow)
