"""GraphQL operations of the commands."""

from gql import GraphQLRequest, gql

JOB_FIELDS = """
    fragment JobFields on Job {
      id type status createdAt startedAt completedAt updatedAt requestId requestedBy version
      canCancel queuePosition estimatedStartAt
      progress { completed total ratio estimatedCompletionAt }
      duplication {
        sourceId source { id name } name description includeProducts
        result { id name nodeCount }
      }
      errors(first: 20) { nodes { id code message createdAt } }
    }
    """


QUEUE_FIELDS = """
    fragment QueueFields on JobQueue {
      pending running { id } oldestPendingAt cursor pause { at reason by }
    }
    """


def _operation(text: str, *fragments: str) -> GraphQLRequest:
    return gql("".join((text, *(fragments or (JOB_FIELDS,)))))


DUPLICATE = _operation(
    """
    mutation Duplicate($input: DuplicateHierarchyInput!) {
      duplicateHierarchy(input: $input) {
        job { ...JobFields }
        replayed
        errors { ... on UserError { message } }
      }
    }
    """
)


CANCEL = _operation(
    """
    mutation Cancel($input: CancelJobInput!) {
      cancelJob(input: $input) {
        job { ...JobFields }
        errors { ... on UserError { message } }
      }
    }
    """
)


RETRY = _operation(
    """
    mutation Retry($input: RetryJobInput!) {
      retryJob(input: $input) {
        job { ...JobFields }
        replayed
        errors { ... on UserError { message } }
      }
    }
    """
)


MOVE = _operation(
    """
    mutation Move($input: MoveJobInput!) {
      moveJob(input: $input) {
        job { ...JobFields }
        errors { ... on UserError { message } }
      }
    }
    """
)


PAUSE = _operation(
    """
    mutation Pause($input: PauseQueueInput!) {
      pauseQueue(input: $input) {
        queue { ...QueueFields }
        errors { ... on UserError { message } }
      }
    }
    """,
    QUEUE_FIELDS,
)


RESUME = _operation(
    """
    mutation Resume {
      resumeQueue {
        queue { ...QueueFields }
        errors { ... on UserError { message } }
      }
    }
    """,
    QUEUE_FIELDS,
)


DIFF = _operation(
    """
    query Diff($jobId: ID!) {
      duplicationDiff(jobId: $jobId) {
        onlyInSource onlyInCopy changed differences { kind aspects path }
      }
    }
    """,
    "",
)


# Fields are resolved in order: with the queue first, an event between the two is after its cursor.
JOBS = _operation(
    """
    query Jobs($first: Int!, $after: String, $filter: JobFilter) {
      jobQueue { ...QueueFields }
      jobs(first: $first, after: $after, filter: $filter) {
        nodes { ...JobFields }
        pageInfo { hasNextPage endCursor }
      }
    }
    """,
    JOB_FIELDS,
    QUEUE_FIELDS,
)


JOB_UPDATES = _operation(
    """
    subscription JobUpdates($id: ID!, $after: String) {
      jobUpdates(id: $id, after: $after) {
        cursor type at previousStatus job { ...JobFields }
      }
    }
    """
)


JOB_EVENTS = _operation(
    """
    subscription JobEvents($filter: JobFilter, $after: String) {
      jobEvents(filter: $filter, after: $after) {
        cursor type at previousStatus job { ...JobFields }
      }
    }
    """
)
