// Messages for failed requests in the page's language; reasons given by the service are not translated.
import { say } from "./language.js";

/** The message for a Refusal. */
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
