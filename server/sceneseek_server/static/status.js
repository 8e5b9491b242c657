// The status line of the service, and banners: not ready, reindexing, or a changed collection. Polled while the page is
// visible.
import { ask } from "./api.js";
import { apart, button, element, renew } from "./elements.js";
import { isFirst } from "./first.js";
import { date, say } from "./language.js";
import { explained } from "./problems.js";

const EVERY = 10_000;
// Milliseconds between polls while something is wrong, or about to change.
const SOON = 2_000;

export class Status {
  /**
   * line: the element of the status line.
   * banners: the element of the banners, which overlay the page, so that they do not shift it.
   * handlers: `.recovered()`, `.searchAgain()` when the user searches the changed collection, `.generation(name)`,
   * `.multilingual(whether)` the models are multilingual, `.mayWrite(whether)` the user may add pictures,
   * `.first(problem)` while nothing is indexed, and `.showsProblem()`, whether the page already shows a problem.
   */
  constructor(line, banners, handlers) {
    this.line = line;
    this.banners = banners;
    this.handlers = handlers;
    this.away = false;
    this.searched = "";
    this.state = null;
    document.addEventListener("visibilitychange", () => document.hidden || this.refresh());
  }

  /** Poll now, and then regularly. */
  async refresh() {
    clearTimeout(this.timer);
    const mine = (this.current = {});
    const [ready, collections] = await Promise.allSettled([ask("readyz"), ask("v1/collections")]);
    const problem = ready.reason ?? collections.reason ?? null;
    if (mine !== this.current) {
      return;
    }
    if (!problem) {
      this.#found(ready.value, collections.value);
    } else if (problem.kind !== "busy") {
      this.#lost(problem);
    }
    if (!document.hidden) {
      this.timer = setTimeout(() => this.refresh(), wait(problem, collections.value));
    }
  }

  /** Set the generation of the shown results; empty if there are none. */
  shows(generation) {
    this.searched = generation;
    this.#showBanners();
  }

  #lost(problem) {
    const first = isFirst(problem.problem);
    this.away = true;
    this.state = first ? {} : { problem };
    this.line.textContent = say(first ? "status.first" : "status.away");
    this.line.classList.toggle("amiss", !first);
    if (first) {
      this.handlers.first(problem.problem);
    }
    this.#showBanners();
  }

  #found(ready, { live, collections, building, pack, may_write: mayWrite }) {
    const answering = collections.find((collection) => collection.live);
    this.state = { live, building, behind: ready.problem };
    const parts = [
      element("span", {}, say("status.images", { n: answering?.images ?? ready.images ?? 0 })),
      element("span", { title: say("status.generation", { name: live }) }, say("status.indexed", { date: date(answering?.created ?? "") })),
      element("span", {}, pack),
    ];
    if (ready.runtime?.device) {
      parts.push(element("span", { title: ready.runtime.provider ?? "" }, say("status.device", { device: ready.runtime.device.toUpperCase() })));
    }
    this.line.classList.remove("amiss");
    renew(this.line, apart(parts));
    this.handlers.generation(live);
    this.handlers.multilingual(ready.multilingual);
    this.handlers.mayWrite(mayWrite);
    if (this.away) {
      this.away = false;
      this.handlers.recovered();
    }
    this.#showBanners();
  }

  #showBanners() {
    const { problem, live, building, behind } = this.state ?? {};
    const banners = [];
    if (problem && !this.handlers.showsProblem()) {
      banners.push([explained(problem), "amiss"]);
    }
    if (building) {
      banners.push([say("banner.building"), ""]);
    }
    if (behind) {
      banners.push([say("banner.behind", { why: behind }), ""]);
    }
    const renewed = Boolean(live && this.searched && live !== this.searched);
    if (renewed) {
      banners.push([say("banner.renewed"), ""]);
    }
    const now = JSON.stringify(banners);
    if (now === this.shown) {
      return;
    }
    this.shown = now;
    this.banners.replaceChildren(...banners.map(([text, kind]) => element("p", { class: `banner ${kind}`.trim() }, text)));
    if (renewed) {
      this.banners.lastElementChild.append(" ", button(say("banner.renewed.search"), () => this.handlers.searchAgain()));
    }
  }
}

/** Milliseconds until the next poll. */
function wait(problem, collections) {
  if (problem) {
    return { away: SOON, unready: SOON, busy: Math.max(problem.seconds * 1000, EVERY) }[problem.kind] ?? EVERY;
  }
  return collections.building ? SOON : EVERY;
}
