/* All operations of the console. A test validates them against the schema. */

const JOB = `
fragment JobFields on Job {
  id
  type
  status
  version
  createdAt
  startedAt
  completedAt
  updatedAt
  requestedBy
  canCancel
  canRetry
  estimatedStartAt
  retryOf { id }
  retriedBy { id status }
  progress { completed total ratio estimatedCompletionAt }
  duplication {
    name
    includeProducts
    source { id name }
    result { id name }
  }
  errors(first: 5) { nodes { id code message } }
}`;

/* The cursor is selected before the lists, so that it is not newer than they are. */
export const QUEUE = `
query Queue($ended: Int!) {
  jobQueue {
    cursor
    pending
    pause { reason at by }
    running { ...JobFields }
  }
  queuedJobs(first: 50) {
    nodes { ...JobFields }
    pageInfo { hasNextPage endCursor }
  }
  jobs(first: $ended, filter: { status: [SUCCESS, FAILED, CANCELLED] }) {
    nodes { ...JobFields }
    pageInfo { hasNextPage endCursor }
  }
}
${JOB}`;

/* What no event contains: the pause, and the estimates of pending jobs. */
export const STANDING = `
query Standing {
  jobQueue {
    pending
    pause { reason at by }
  }
  queuedJobs(first: 50) {
    nodes { id version estimatedStartAt }
  }
}`;

export const MORE_WAITING = `
query MoreWaiting($after: String) {
  queuedJobs(first: 50, after: $after) {
    nodes { ...JobFields }
    pageInfo { hasNextPage endCursor }
  }
}
${JOB}`;

export const MORE_ENDED = `
query MoreEnded($after: String) {
  jobs(first: 50, after: $after, filter: { status: [SUCCESS, FAILED, CANCELLED] }) {
    nodes { ...JobFields }
    pageInfo { hasNextPage endCursor }
  }
}
${JOB}`;

export const HOURS = `
query Hours {
  jobQueue {
    hours(hours: 24) {
      begins
      pending
      started
      success
      failed
      cancelled
      averageSeconds
      longestSeconds
    }
  }
}`;

export const JOB_EVENTS = `
subscription JobEvents($after: String) {
  jobEvents(after: $after) {
    cursor
    type
    previousStatus
    job { ...JobFields }
  }
}
${JOB}`;

export const CANCEL = `
mutation Cancel($id: ID!) {
  cancelJob(input: { jobId: $id }) {
    errors { __typename ... on UserError { message path } }
  }
}`;

export const MOVE = `
mutation Move($id: ID!) {
  moveJob(input: { jobId: $id }) {
    errors { __typename ... on UserError { message path } }
  }
}`;

export const RETRY = `
mutation Retry($id: ID!) {
  retryJob(input: { jobId: $id }) {
    errors { __typename ... on UserError { message path } }
  }
}`;

export const PAUSE = `
mutation Pause($reason: String) {
  pauseQueue(input: { reason: $reason }) {
    errors { __typename ... on UserError { message path } }
  }
}`;

export const RESUME = `
mutation Resume {
  resumeQueue {
    errors { __typename ... on UserError { message path } }
  }
}`;

export const HIERARCHIES = `
query Hierarchies($first: Int!, $after: String, $filter: HierarchyFilter) {
  hierarchies(first: $first, after: $after, filter: $filter) {
    totalCount
    nodes { id name owner nodeCount }
    pageInfo { hasNextPage endCursor }
  }
}`;

/* The root of an import has no translations, its nodes have. */
export const HIERARCHY = `
query Hierarchy($id: ID!) {
  hierarchy(id: $id) {
    id
    name
    description
    owner
    nodeCount
    createdAt
    copiedFrom { id name }
    localizations { locale }
    children(first: 10) { nodes { localizations { locale } } }
  }
}`;

export const CHILDREN = `
query Children($ids: [ID!]!, $after: String, $locale: String) {
  nodes(ids: $ids) {
    ... on TreeItem {
      id
      children(first: 100, after: $after) {
        totalCount
        nodes {
          id
          name(locale: $locale)
          children(first: 1) { totalCount }
        }
        pageInfo { hasNextPage endCursor }
      }
    }
  }
}`;

export const PREVIEW = `
query Preview($id: ID!, $includeProducts: Boolean!) {
  duplicationPreview(hierarchyId: $id, includeProducts: $includeProducts) {
    nodeCount
    productAssociationCount
    queuePosition
    estimatedSeconds
  }
}`;

export const DUPLICATE = `
mutation Duplicate($input: DuplicateHierarchyInput!) {
  duplicateHierarchy(input: $input) {
    job { id type duplication { name source { name } result { name } } }
    errors { __typename ... on UserError { message path } }
  }
}`;
