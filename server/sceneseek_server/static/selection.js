// What can be done with several results: fetch their files, copy their paths, search by them.
import { archive } from "./api.js";
import { button, byId, element } from "./elements.js";
import { say } from "./language.js";
import { copied } from "./viewer.js";

// As many as the service puts into one archive, and as terms into one search.
const MOST_FILES = 100;
const MOST_TERMS = 8;

export class Selection {
  /**
   * heard: `.results(ids)`, the results of ids; `.searched(ids)`, to search for more like these; `.cleared()`.
   */
  constructor(heard) {
    this.heard = heard;
    this.bar = byId("selection");
    this.ids = [];
    this.bar.setAttribute("aria-label", say("select.title"));
    this.count = element("p", { role: "status" });
    this.zip = element("a", { class: "button plain", download: "images.zip" }, say("select.zip"));
    this.paths = button(say("select.paths"), () => this.#copy());
    this.like = button(say("select.like"), () => heard.searched(this.ids));
    this.bar.append(this.count, this.zip, this.paths, this.like, button(say("select.none"), () => heard.cleared()));
  }

  /** Show what can be done with the results of these ids. */
  show(ids) {
    this.ids = ids;
    this.bar.hidden = !ids.length;
    document.body.classList.toggle("selecting", ids.length > 0);
    this.count.textContent = ids.length ? say("select.count", { n: ids.length }) : "";
    this.zip.hidden = ids.length > MOST_FILES;
    this.zip.href = archive(ids);
    this.like.hidden = ids.length > MOST_TERMS;
    this.paths.hidden = !this.heard.results(ids).every((result) => result.path);
  }

  async #copy() {
    const text = this.heard.results(this.ids).map((result) => result.path).join("\n");
    const done = await copied(text, this.bar);
    this.count.textContent = say(done ? "select.copied" : "select.uncopied", { n: this.ids.length });
  }
}
