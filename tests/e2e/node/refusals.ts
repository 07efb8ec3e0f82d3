// The typed errors of payloads: a missing case is a compiler error.
import type { CancelMutation, DuplicateMutation } from "./generated/graphql.js";

type Refusal =
  | CancelMutation["cancelJob"]["errors"][number]
  | DuplicateMutation["duplicateHierarchy"]["errors"][number];

/** Returns the message for the user. */
export function messageOf(refusal: Refusal): string {
  switch (refusal.__typename) {
    case "NotFound":
    case "Forbidden":
      return refusal.message;
    case "InvalidInput":
      return `${refusal.path.join(".")}: ${refusal.message}`;
    case "JobNotCancellable":
      return `${refusal.message} (${refusal.status})`;
    case "IdempotencyConflict":
      return `${refusal.message} (${refusal.job.id})`;
  }
}
