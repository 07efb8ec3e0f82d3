"""Which scope each type of the schema needs: whoever selects a field of it has to have that."""

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
        # What lies below them is asked for by its own type. Whom a Node may be depends on the
        # scopes too: see `node.find`.
        *("Query", "Mutation", "Subscription", "Node", "PageInfo"),
        # A mutation needs a scope of its own, and its payload tells when it is missing.
        *("DuplicateHierarchyPayload", "CancelJobPayload", "UserError", "NotFound", "Forbidden"),
        *("HierarchyPayload", "NodePayload", "ProductsPayload", "DeletePayload"),
        *("RetryJobPayload", "CancelJobsPayload", "CancelJobOutcome", "MoveJobPayload"),
        "QueuePayload",
        *("InvalidInput", "IdempotencyConflict", "JobNotCancellable"),
        *("JobNotRetryable", "JobNotMovable"),
    }
)
"""The types that need none."""
