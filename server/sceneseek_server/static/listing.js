// The results of a search, loaded page by page as the user scrolls.
import { ask } from "./api.js";
import { searchOf } from "./address.js";

// Divisible by 2, 3, 4, 6 and 8, so that rows of many lengths are full.
const PAGE = 24;

export class Listing {
  /**
   * handlers: `.searching()`, `.found(answer, elapsed, renewed)` for a first page, `.extended()` for further pages, and
   * `.failed(refusal, first)`.
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.results = [];
    this.answer = null;
    this.state = null;
    this.complete = true;
    this.loading = false;
    this.running = null;
    this.again = 0;
  }

  /** Start the search of a state, and abort the previous one. */
  start(state, renewed = false) {
    this.#abort();
    this.state = state;
    this.handlers.searching();
    this.#first(renewed);
  }

  /** Abort, and clear the results. */
  stop() {
    this.#abort();
    this.#forget();
    this.state = null;
  }

  /** Fetch the next page, unless there is none or it is being fetched. */
  more() {
    if (!this.complete && !this.loading && this.answer) {
      this.#following();
    }
  }

  #forget() {
    this.results = [];
    this.answer = null;
    this.complete = true;
  }

  #abort() {
    this.running?.abort();
    clearTimeout(this.again);
    this.running = null;
    this.loading = false;
  }

  async #first(renewed) {
    const start = performance.now();
    const answer = await this.#page(0, () => this.#first(renewed));
    if (answer) {
      this.answer = answer;
      this.results = answer.results;
      this.complete = answer.next_offset === null;
      this.handlers.found(answer, performance.now() - start, renewed);
    }
  }

  async #following() {
    const answer = await this.#page(this.answer.next_offset, () => this.#following());
    if (!answer) {
      return;
    }
    if (answer.generation !== this.answer.generation) {
      // Offsets of one generation are not valid in another.
      this.start(this.state, true);
      return;
    }
    this.answer = answer;
    this.results = [...this.results, ...answer.results];
    this.complete = answer.next_offset === null;
    this.handlers.extended();
  }

  /** Fetch a page; null if aborted or failed. Failures are reported, and retried if temporary. */
  async #page(offset, retry) {
    clearTimeout(this.again);
    const mine = (this.running = new AbortController());
    this.loading = true;
    try {
      const answer = await this.#ask(offset, mine.signal);
      return mine.signal.aborted ? null : answer;
    } catch (error) {
      if (error.name === "AbortError" || mine.signal.aborted) {
        return null;
      }
      if (offset === 0) {
        this.#forget();
      }
      if (error.passes) {
        this.again = setTimeout(retry, error.seconds * 1000);
      }
      this.handlers.failed(error, offset === 0);
      return null;
    } finally {
      if (this.running === mine) {
        this.loading = false;
      }
    }
  }

  #ask(offset, signal) {
    const params = searchOf(this.state);
    params.set("k", PAGE);
    params.set("offset", offset);
    params.set("explain", "true");
    if (!this.state.picture) {
      return ask(`v1/search?${params}`, { signal });
    }
    const form = new FormData();
    for (const [name, value] of params) {
      form.append(name, value);
    }
    const { bytes, type, name } = this.state.picture;
    form.append("file", new Blob([bytes], { type }), name);
    return ask("v1/search", { method: "POST", body: form, signal });
  }
}
