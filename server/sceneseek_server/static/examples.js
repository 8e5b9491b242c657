// What somebody may search for first: of some likely wishes those that this collection can fulfil, each with the image
// that fulfils it best.
import { send, thumbnail } from "./api.js";
import { element } from "./elements.js";
import { proportions } from "./rows.js";

const SHOWN = 6;
// In English, which every pack's text tower reads. A service with a rate limit counts each.
const WISHES = [
  "two dogs playing in the snow",
  "a boat on the water at sunset",
  "a cup of coffee",
  "a child on a swing",
  "a bird with bright feathers",
  "a house with a red roof",
  "people at a market",
  "a red flower",
  "mountains behind a lake",
  "a person riding a bicycle",
  "a musical instrument",
  "a bowl of fruit",
];

export class Examples {
  /** chosen: called with the query of the example that somebody takes; linked: its address. */
  constructor(section, list, linked, chosen) {
    this.section = section;
    this.list = list;
    this.linked = linked;
    this.chosen = chosen;
    this.asked = false;
    this.wanted = false;
  }

  /** Show or hide them; they are asked for when they are first to be seen. */
  async show(wanted) {
    this.wanted = wanted;
    this.section.hidden = !wanted || !this.list.childElementCount;
    if (!wanted || this.asked) {
      return;
    }
    this.asked = true;
    try {
      const { answers } = await send("v1/search", { queries: WISHES.map((q) => ({ q, k: 1 })) });
      this.list.replaceChildren(...fulfilled(answers).map((answer) => this.#item(answer)));
    } catch {
      // The status line tells of a service that does not answer; there may be examples when it does.
      this.asked = false;
      return;
    }
    this.section.hidden = !this.wanted || !this.list.childElementCount;
  }

  #item({ query, results: [best] }) {
    const link = element(
      "a",
      { href: this.linked(query) },
      element("span", { class: "frame" }, element("img", { src: thumbnail(best.id), alt: "", decoding: "async" })),
      element("span", { class: "title" }, query),
    );
    link.addEventListener("click", (event) => {
      if (!(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey)) {
        event.preventDefault();
        this.chosen(query);
      }
    });
    const item = element("li", {}, link);
    item.style.setProperty("--shape", proportions(best));
    return item;
  }
}

/** The best of the wishes that have an answer, no image twice. */
function fulfilled(answers) {
  const found = answers.filter((answer) => answer.match !== false && answer.results.length);
  found.sort((one, other) => other.results[0].score - one.results[0].score);
  const seen = new Set();
  const chosen = found.filter(({ results: [best] }) => !seen.has(best.id) && seen.add(best.id));
  return chosen.slice(0, SHOWN);
}
