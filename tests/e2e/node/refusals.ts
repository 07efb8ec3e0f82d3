// The typed errors of payloads: a case that is forgotten is an error of the compiler.
import type { CancelMutation, DuplicateMutation } from "./generated/graphql.js";

type Refusal =
  | CancelMutation["cancelJob"]["errors"][number]
  | DuplicateMutation["duplicateHierarchy"]["errors"][number];

/** What to tell the person who asked. */
export function explained(refusal: Refusal): string {
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
