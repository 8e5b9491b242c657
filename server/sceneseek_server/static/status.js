// What answers, in a line, and in banners what people should know of it: that it is not ready, that a reindex runs,
// that the collection has changed since. Asked for again and again while the page can be seen.
import { ask } from "./api.js";
import { apart, button, element, renew } from "./elements.js";
import { isFirst } from "./first.js";
import { date, say } from "./language.js";
import { explained } from "./problems.js";

const EVERY = 10_000;
// While something is amiss, or about to change.
const SOON = 2_000;

export class Status {
  /**
   * line: where the status goes.
   * banners: where the banners go; they lie over the page, so that nothing moves when one comes.
   * heard: `.recovered()`, `.anew()` when somebody wants the changed collection searched, `.generation(name)`,
   * `.multilingual(whether)` the models read many languages, `.mayWrite(whether)` the user may add pictures, `.first(problem)` while nothing is indexed yet, and
   * `.told()`, whether the page shows a problem already.
   */
  constructor(line, banners, heard) {
    this.line = line;
    this.banners = banners;
    this.heard = heard;
    this.away = false;
    this.searched = "";
    this.state = null;
    document.addEventListener("visibilitychange", () => document.hidden || this.look());
  }

  /** Look now, and from now on. */
  async look() {
    clearTimeout(this.timer);
    const mine = (this.looking = {});
    const [ready, collections] = await Promise.allSettled([ask("readyz"), ask("v1/collections")]);
    const problem = ready.reason ?? collections.reason ?? null;
    if (mine !== this.looking) {
      return;
    }
    if (!problem) {
      this.#found(ready.value, collections.value);
    } else if (problem.kind !== "busy") {
      this.#lost(problem);
    }
    if (!document.hidden) {
      this.timer = setTimeout(() => this.look(), wait(problem, collections.value));
    }
  }

  /** The generation whose results are shown; empty for none. */
  shows(generation) {
    this.searched = generation;
    this.#tell();
  }

  #lost(problem) {
    const first = isFirst(problem.problem);
    this.away = true;
    this.state = first ? {} : { problem };
    this.line.textContent = say(first ? "status.first" : "status.away");
    this.line.classList.toggle("amiss", !first);
    if (first) {
      this.heard.first(problem.problem);
    }
    this.#tell();
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
    this.heard.generation(live);
    this.heard.multilingual(ready.multilingual);
    this.heard.mayWrite(mayWrite);
    if (this.away) {
      this.away = false;
      this.heard.recovered();
    }
    this.#tell();
  }

  #tell() {
    const { problem, live, building, behind } = this.state ?? {};
    const told = [];
    if (problem && !this.heard.told()) {
      told.push([explained(problem), "amiss"]);
    }
    if (building) {
      told.push([say("banner.building"), ""]);
    }
    if (behind) {
      told.push([say("banner.behind", { why: behind }), ""]);
    }
    const renewed = Boolean(live && this.searched && live !== this.searched);
    if (renewed) {
      told.push([say("banner.renewed"), ""]);
    }
    const now = JSON.stringify(told);
    if (now === this.told) {
      return;
    }
    this.told = now;
    this.banners.replaceChildren(...told.map(([text, kind]) => element("p", { class: `banner ${kind}`.trim() }, text)));
    if (renewed) {
      this.banners.lastElementChild.append(" ", button(say("banner.renewed.search"), () => this.heard.anew()));
    }
  }
}

/** Milliseconds until the next look. */
function wait(problem, collections) {
  if (problem) {
    return { away: SOON, unready: SOON, busy: Math.max(problem.seconds * 1000, EVERY) }[problem.kind] ?? EVERY;
  }
  return collections.building ? SOON : EVERY;
}
