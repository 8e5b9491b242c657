// One search's results, page after page, as far as somebody reads on.
import { ask } from "./api.js";
import { searchOf } from "./address.js";

// Divides by 2, 3, 4, 6 and 8, so that rows of many lengths come out full.
const PAGE = 24;

export class Listing {
  /**
   * heard is told of everything: `.searching()`, `.found(answer, elapsed, renewed)` of a first page, `.extended()` of
   * another, and `.failed(refusal, first)`.
   */
  constructor(heard) {
    this.heard = heard;
    this.results = [];
    this.answer = null;
    this.state = null;
    this.complete = true;
    this.loading = false;
    this.running = null;
    this.again = 0;
  }

  /** Search for what a state says; whatever was under way is let go. */
  start(state, renewed = false) {
    this.#abort();
    this.state = state;
    this.heard.searching();
    this.#first(renewed);
  }

  /** Search for nothing. */
  stop() {
    this.#abort();
    this.#forget();
    this.state = null;
  }

  /** Fetch the next page, unless there is none or one is on its way. */
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
      this.heard.found(answer, performance.now() - start, renewed);
    }
  }

  async #following() {
    const answer = await this.#page(this.answer.next_offset, () => this.#following());
    if (!answer) {
      return;
    }
    if (answer.generation !== this.answer.generation) {
      // Places in the order of one generation are none in that of another.
      this.start(this.state, true);
      return;
    }
    this.answer = answer;
    this.results = [...this.results, ...answer.results];
    this.complete = answer.next_offset === null;
    this.heard.extended();
  }

  /** One page; null if it is no longer wanted, or failed, which is told, and tried again where that may help. */
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
      this.heard.failed(error, offset === 0);
      return null;
    } finally {
      if (this.running === mine) {
        this.loading = false;
      }
    }
  }

  #ask(offset, signal) {
    const said = searchOf(this.state);
    said.set("k", PAGE);
    said.set("offset", offset);
    said.set("explain", "true");
    if (!this.state.picture) {
      return ask(`v1/search?${said}`, { signal });
    }
    const form = new FormData();
    for (const [name, value] of said) {
      form.append(name, value);
    }
    const { bytes, type, name } = this.state.picture;
    form.append("file", new Blob([bytes], { type }), name);
    return ask("v1/search", { method: "POST", body: form, signal });
  }
}
