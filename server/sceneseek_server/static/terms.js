// Further terms besides the search field: words and images of the collection, each with a weight. Terms with a minus
// lower the rank. A term is stored in the form of `terms=` of /v1/search: `sunset`, `sunset:0.5`, `-people`, `-ID`.
import { thumbnail } from "./api.js";
import { button, byId, element } from "./elements.js";
import { say } from "./language.js";

const WEIGHTS = [1, 0.75, 0.5, 0.25];
const ID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

/** Format a term of words or an image id. */
export function term(what, { minus = false, weight = 1 } = {}) {
  return `${minus ? "-" : ""}${what}${weight === 1 ? "" : `:${weight}`}`;
}

/** Parse a term into `what`, `minus`, `weight`, and whether it is an `image`. */
export function read(written) {
  const minus = written.startsWith("-");
  const [, what, weight] = written.slice(minus ? 1 : 0).match(/^(.*?)(?::(0?\.\d+|1(?:\.0+)?))?$/s);
  return { what, minus, weight: weight ? Number.parseFloat(weight) : 1, image: ID.test(what) };
}

/** Whether results are ordered by similarity rather than score: if a state searches by anything but words. */
export function byLikeness(state) {
  return Boolean(state.image || state.picture || state.terms.some((written) => read(written).image));
}

export class Terms {
  /** changed: called with the terms when the user changes them. */
  constructor(changed) {
    this.changed = changed;
    this.terms = [];
    this.panel = byId("terms");
    this.panel.setAttribute("aria-label", say("terms.title"));
    this.toggle = byId("terms-toggle");
    this.chips = byId("terms-chips");
    this.toggle.addEventListener("click", () => this.open(this.panel.hidden));
    for (const input of this.panel.querySelectorAll("input")) {
      const add = () => this.#add(input);
      input.addEventListener("keydown", (event) => event.key === "Enter" && !event.isComposing && (event.preventDefault(), add()));
      const button = input.nextElementSibling;
      button.setAttribute("aria-label", say(`terms.add.${input.name}`));
      button.addEventListener("click", add);
    }
  }

  /** Show or hide the inputs. */
  open(open) {
    this.panel.hidden = !open;
    this.toggle.setAttribute("aria-expanded", String(open));
    if (open) {
      this.panel.querySelector("input").focus();
    }
  }

  /** Show the terms of a state. */
  show({ terms }) {
    if (String(terms) === String(this.terms) && this.chips.childElementCount === terms.length) {
      return;
    }
    this.terms = terms;
    this.chips.replaceChildren(...terms.map((written, i) => this.#chip(written, i)));
    this.chips.hidden = !terms.length;
  }

  #add(input) {
    const what = input.value.trim();
    if (what) {
      input.value = "";
      this.changed([...this.terms, term(what, { minus: input.name === "minus" })]);
    }
  }

  #chip(written, place) {
    const parsed = read(written);
    const name = parsed.image ? say("terms.image") : parsed.what;
    const whole = say(parsed.minus ? "terms.minus" : "terms.plus", { what: name });
    const remove = () => {
      this.changed(this.terms.filter((_, i) => i !== place));
      (this.chips.querySelector("button") ?? this.toggle).focus();
    };
    const cross = button("×", remove, { "aria-label": say("terms.remove", { what: whole }) });
    const weights = WEIGHTS.includes(parsed.weight) ? WEIGHTS : [...WEIGHTS, parsed.weight];
    const choice = element(
      "select",
      { "aria-label": say("terms.weight", { what: whole }) },
      ...weights.map((weight) => element("option", { value: weight, selected: weight === parsed.weight }, say("terms.percent", { n: weight * 100 }))),
    );
    choice.addEventListener("change", () => {
      const weighed = term(parsed.what, { ...parsed, weight: Number.parseFloat(choice.value) });
      this.changed(this.terms.map((each, i) => (i === place ? weighed : each)));
      this.chips.querySelectorAll("select")[place]?.focus();
    });
    const shown = parsed.image ? element("img", { src: thumbnail(parsed.what), alt: whole, title: whole, width: 28, height: 28 }) : element("span", { dir: "auto" }, parsed.what);
    return element("li", { class: parsed.minus ? "minus" : "plus" }, element("span", { class: "sign", "aria-hidden": "true" }, parsed.minus ? "−" : "+"), shown, choice, cross);
  }
}
