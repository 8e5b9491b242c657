// Example queries: suggested queries that match something in this collection, each with its best image.
import { send, thumbnail } from "./api.js";
import { element, modified } from "./elements.js";
import { proportions } from "./rows.js";

const SHOWN = 6;
export class Examples {
  /** linked: returns the address of a query; chosen: called with the query of a clicked example. */
  constructor(section, list, linked, chosen) {
    this.section = section;
    this.list = list;
    this.linked = linked;
    this.chosen = chosen;
    this.queries = [];
    this.asked = "";
    this.wanted = false;
  }

  /** Set the queries and their language code. */
  propose(queries, code) {
    this.queries = queries;
    this.list.lang = code;
    this.show(this.wanted);
  }

  /** Show or hide the examples; they are searched when first shown. */
  async show(wanted) {
    this.wanted = wanted;
    this.section.hidden = !wanted || !this.list.childElementCount;
    const asked = this.queries.join("\n");
    if (!wanted || this.asked === asked) {
      return;
    }
    this.asked = asked;
    try {
      const { answers } = await send("v1/search", { queries: this.queries.map((q) => ({ q, k: 1 })) });
      if (this.asked === asked) {
        this.list.replaceChildren(...matching(answers).map((answer) => this.#item(answer)));
      }
    } catch {
      // The status line reports that the service does not answer; the examples are searched again when it does.
      this.asked = "";
      return;
    }
    this.section.hidden = !this.wanted || !this.list.childElementCount;
  }

  #item({ query, results: [best] }) {
    const link = element(
      "a",
      { href: this.linked(query) },
      element("span", { class: "frame" }, element("img", { src: thumbnail(best.id), alt: "", decoding: "async" })),
      element("span", { class: "title", dir: "auto" }, query),
    );
    link.addEventListener("click", (event) => {
      if (!modified(event)) {
        event.preventDefault();
        this.chosen(query);
      }
    });
    const item = element("li", {}, link);
    item.style.setProperty("--shape", proportions(best));
    return item;
  }
}

/** The best matching queries, without repeating an image. */
function matching(answers) {
  const found = answers.filter((answer) => answer.match !== false && answer.results.length);
  found.sort((one, other) => other.results[0].score - one.results[0].score);
  const seen = new Set();
  const chosen = found.filter(({ results: [best] }) => !seen.has(best.id) && seen.add(best.id));
  return chosen.slice(0, SHOWN);
}
