"""How much one client may ask for, as an operator sets it."""

from pydantic import BaseModel, Field


class Limits(BaseModel):
    """How much one client may ask for."""

    max_tokens: int = Field(2_000, ge=100, description="Tokens of a document.")
    max_depth: int = Field(20, ge=1, description="Fields inside fields of a document.")
    max_aliases: int = Field(
        30, ge=0, description="Aliases in a document, and fields named again beside themselves."
    )
    max_directives: int = Field(50, ge=0, description="Directives in a document.")
    max_cost: int = Field(
        20_000,
        ge=1,
        description="Fields of an answer if every page were full, other lists counting as 10; of a "
        "batch, all together. Told in `extensions.cost`.",
    )
    max_batch: int = Field(10, ge=0, description="Operations in one HTTP request; 0: no batches.")
    max_body_bytes: int = Field(
        128 * 1024, ge=1024, le=16 * 1024**2, description="Bytes of a body or a WebSocket message."
    )
    max_execution_seconds: float = Field(
        10, gt=0, description="How long a query or a mutation may take."
    )
    max_requests_per_second: float = Field(
        100,
        ge=0,
        description="Operations a second of one client (a subject of a store, or else an address), "
        "twice as many at once; 0: no limit.",
    )
    max_streams_per_client: int = Field(
        200, ge=1, description="WebSockets of one address, other streams of one client, at once."
    )
    max_operations_per_socket: int = Field(
        100, ge=1, description="Operations that may run at once on a WebSocket."
    )
