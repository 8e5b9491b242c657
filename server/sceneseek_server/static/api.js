// Requests to the service, and their errors. Addresses are relative to the page, so that it works under any prefix.

/**
 * A failed request. `kind` decides how the page handles it:
 *   away     there was no response
 *   unready  the service cannot answer now
 *   busy     there are too many requests
 *   key      a key is required
 *   refused  anything else: retrying does not help
 * `seconds` is the time until a retry; `problem` is the problem document, empty if there is none.
 */
export class Refusal extends Error {
  constructor(kind, status, why, seconds, problem = {}) {
    super(why);
    this.problem = problem;
    this.kind = kind;
    this.status = status;
    this.seconds = seconds;
  }

  /** Whether the same request may succeed later. */
  get passes() {
    return ["away", "unready", "busy"].includes(this.kind);
  }
}

/** The address of an image of the collection, relative to the page, which may be served under a prefix. */
export function original(id) {
  return `v1/images/${encodeURIComponent(id)}`;
}

/** The address of its thumbnail. */
export function thumbnail(id) {
  return `${original(id)}/thumbnail`;
}

/** The address of a ZIP archive of several images. */
export function archive(ids) {
  return `v1/images/archive?${new URLSearchParams(ids.map((id) => ["id", id]))}`;
}

export function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}

const KINDS = { 401: "key", 429: "busy", 502: "unready", 503: "unready", 504: "unready" };

/** The JSON of a response. Throws a Refusal, or an AbortError if `signal` aborts. */
export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(path, { credentials: "same-origin", ...options });
  } catch (error) {
    if (error.name === "AbortError") {
      throw error;
    }
    throw new Refusal("away", 0, "", 2);
  }
  if (response.ok) {
    return response.json();
  }
  throw refusal(response, await problemOf(response));
}

/** Like `ask`, with a JSON body. */
export function send(path, document, options = {}) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(document), ...options });
}

async function problemOf(response) {
  try {
    return await response.json();
  } catch {
    return {};
  }
}

function refusal(response, problem) {
  const detail = problem.detail ?? `${response.status} ${response.statusText}`.trim();
  const why = problem.hint ? `${detail} (${problem.hint})` : detail;
  const retryAfter = Number.parseFloat(response.headers.get("Retry-After") ?? "");
  const seconds = Math.min(Math.max(Number.isFinite(retryAfter) ? retryAfter : 2, 1), 60);
  return new Refusal(KINDS[response.status] ?? "refused", response.status, why, seconds, problem);
}
