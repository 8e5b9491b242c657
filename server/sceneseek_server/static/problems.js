// What went wrong with a request, in the page's language; a reason that the service gives is in its own words.
import { say } from "./language.js";

/** One sentence or two of a Refusal. */
export function explained(refusal) {
  switch (refusal.kind) {
    case "away":
      return say("problem.away");
    case "unready":
      return say("problem.unready", { why: refusal.message });
    case "busy":
      return say("problem.busy", { seconds: Math.ceil(refusal.seconds) });
    case "key":
      return say("problem.key");
    default:
      return refusal.message;
  }
}
