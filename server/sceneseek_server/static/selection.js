// Actions on selected results: download their files, copy their paths, search by them.
import { archive } from "./api.js";
import { button, byId, element } from "./elements.js";
import { say } from "./language.js";
import { copied } from "./viewer.js";

// The service's limits of files per archive and terms per search.
const MAX_FILES = 100;
const MAX_TERMS = 8;

export class Selection {
  /**
   * handlers: `.results(ids)` returns the results; `.searched(ids)` searches by them; `.cleared()`.
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.bar = byId("selection");
    this.ids = [];
    this.bar.setAttribute("aria-label", say("select.title"));
    this.count = element("p", { role: "status" });
    this.zip = element("a", { class: "button plain", download: "images.zip" }, say("select.zip"));
    this.paths = button(say("select.paths"), () => this.#copy());
    this.like = button(say("select.like"), () => handlers.searched(this.ids));
    this.bar.append(this.count, this.zip, this.paths, this.like, button(say("select.none"), () => handlers.cleared()));
  }

  /** Show the actions for the results with these ids. */
  show(ids) {
    this.ids = ids;
    this.bar.hidden = !ids.length;
    document.body.classList.toggle("selecting", ids.length > 0);
    this.count.textContent = ids.length ? say("select.count", { n: ids.length }) : "";
    this.zip.hidden = ids.length > MAX_FILES;
    this.zip.href = archive(ids);
    this.like.hidden = ids.length > MAX_TERMS;
    this.paths.hidden = !this.handlers.results(ids).every((result) => result.path);
  }

  async #copy() {
    const text = this.handlers.results(this.ids).map((result) => result.path).join("\n");
    const done = await copied(text, this.bar);
    this.count.textContent = say(done ? "select.copied" : "select.uncopied", { n: this.ids.length });
  }
}
