"""Scopes by GraphQL type: selecting a field of a type requires its scope."""

from app.domain.callers import Scope

SCOPE_OF_TYPE = {
    **dict.fromkeys(
        (
            "Hierarchy",
            "HierarchyConnection",
            "HierarchyEdge",
            "HierarchyNode",
            "HierarchyNodeConnection",
            "HierarchyNodeEdge",
            "TreeItem",
            "Localization",
            "Breadcrumb",
            "CustomAttribute",
            "Product",
            "ProductConnection",
            "ProductEdge",
            "NodeProductConnection",
            "NodeProductEdge",
            "DuplicationPreview",
            "DuplicationDiff",
            "DuplicationDifference",
        ),
        Scope.HIERARCHIES_READ,
    ),
    **dict.fromkeys(
        (
            "Job",
            "JobConnection",
            "JobEdge",
            "JobError",
            "JobErrorConnection",
            "JobErrorEdge",
            "JobEvent",
            "JobProgress",
            "JobQueue",
            "QueuePause",
            "QueueHour",
            "Duplication",
        ),
        Scope.JOBS_READ,
    ),
}

FREE = frozenset(
    {
        # The types of their fields require scopes of their own. The rows that `node` returns depend
        # on the scopes too: see `types.relay.rows_by_ids`.
        *("Query", "Mutation", "Subscription", "Node", "PageInfo"),
        # A mutation checks its scope itself and reports a missing one in its payload.
        *("DuplicateHierarchyPayload", "CancelJobPayload", "UserError", "NotFound", "Forbidden"),
        *("HierarchyPayload", "NodePayload", "ProductsPayload", "DeletePayload"),
        *("RetryJobPayload", "CancelJobsPayload", "CancelJobOutcome", "MoveJobPayload"),
        "QueuePayload",
        *("InvalidInput", "IdempotencyConflict", "JobNotCancellable"),
        *("JobNotRetryable", "JobNotMovable"),
    }
)
"""Types that require no scope."""
