"""Limits per client and operation, as settings."""

from pydantic import BaseModel, Field

from app.domain.hierarchies import MAX_TREE_DEPTH


class Limits(BaseModel):
    """Limits per client, per request and per operation."""

    max_tokens: int = Field(2_000, ge=100, description="Max tokens of a document.")
    max_depth: int = Field(20, ge=1, description="Max depth of nested fields in a document.")
    max_aliases: int = Field(30, ge=0, description="Max aliases and repeated fields in a document.")
    max_directives: int = Field(50, ge=0, description="Max directives in a document.")
    max_cost: int = Field(
        20_000,
        ge=1,
        description="Max cost of an operation or a batch: the fields of a response with full "
        "pages, 100 differences and the requested hours, any other list counting as 10, and a "
        "price per filter, comparison and `hours`. Reported in `extensions.cost`.",
    )
    max_tree_depth: int = Field(
        MAX_TREE_DEPTH,
        ge=1,
        le=10_000,
        description="Max depth of a node that is created, moved or imported; 1 is below the root.",
    )
    max_batch: int = Field(10, ge=0, description="Max operations per HTTP request; 0: no batches.")
    max_body_bytes: int = Field(
        128 * 1024,
        ge=1024,
        le=16 * 1024**2,
        description="Max bytes of a body or WebSocket message.",
    )
    max_execution_seconds: float = Field(10, gt=0, description="Max time of a query or a mutation.")
    max_requests_per_second: float = Field(
        100,
        ge=0,
        description="Max operations per second and client (a subject of a store, or else an "
        "address), twice as many at once; 0: no limit. A costly one counts as several.",
    )
    max_streams_per_client: int = Field(
        200,
        ge=1,
        description="Max open WebSockets per address, and other streams per client.",
    )
    max_subscription_cost: int = Field(
        100_000, ge=1, description="Max cost of a client's open subscriptions together."
    )
    max_operations_per_socket: int = Field(
        100, ge=1, description="Max concurrent operations per WebSocket."
    )
