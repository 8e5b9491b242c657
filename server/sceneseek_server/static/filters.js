// Filters by the collection's metadata: a panel of its fields, and a chip for each active condition.
//
// A condition is stored in the form of `filter=` of /v1/search: those of this panel are JSON, one per field; others,
// from the address, are kept unchanged and only have a chip.
import { ask } from "./api.js";
import { button, element } from "./elements.js";
import { plainName } from "./fields.js";
import { date, say } from "./language.js";

export class Filters {
  /**
   * panel, toggle, label, chips: elements of the page.
   * changed: called with the filters when the user changes them.
   * folded: called when the user hides near-duplicates again.
   * loaded: called with the collection's fields.
   */
  constructor({ panel, toggle, label, chips }, { changed, folded, loaded }) {
    Object.assign(this, { panel, toggle, label, chips, changed, folded, loaded });
    this.fields = [];
    this.generation = "";
    this.filters = [];
    toggle.addEventListener("click", () => this.#open(panel.hidden));
    panel.addEventListener("change", (event) => this.#read(event.target.closest("fieldset")));
  }

  /** Load the fields, once per generation. */
  async offer(generation) {
    if (this.generation === generation) {
      return;
    }
    this.generation = generation;
    try {
      const found = await ask("v1/fields");
      this.fields = found.fields.filter(offered);
      this.loaded(found.fields);
      this.partly = found.complete ? 0 : found.images;
    } catch {
      // Searches work without filters; retried at the next status poll.
      this.generation = "";
      return;
    }
    this.toggle.classList.toggle("unseen", !this.fields.length);
    this.#draw();
  }

  /** Show the filters of a state. */
  show({ filters, duplicates }) {
    this.filters = filters;
    this.label.textContent = filters.length ? say("filters.some", { n: filters.length }) : say("filters.title");
    const chips = filters.map((filter) => this.#chip(described(filter), () => this.changed(filters.filter((each) => each !== filter))));
    if (duplicates) {
      chips.push(this.#chip(say("duplicates.shown"), () => this.folded()));
    }
    this.chips.replaceChildren(...chips);
    this.chips.hidden = !chips.length;
    this.#reflect();
  }

  #chip(text, act) {
    const remove = () => {
      act();
      // The chip is removed; keep the focus nearby.
      (this.chips.querySelector("button") ?? this.toggle).focus();
    };
    const cross = button("×", remove, { "aria-label": say("filters.remove", { filter: text }) });
    return element("li", {}, element("span", { dir: "auto" }, text), cross);
  }

  #open(open) {
    this.panel.hidden = !open;
    this.toggle.setAttribute("aria-expanded", String(open));
    if (open) {
      this.panel.querySelector("input")?.focus();
    }
  }

  #draw() {
    const groups = this.fields.map((field) =>
      element("fieldset", { "data-field": field.name }, element("legend", { dir: "auto" }, plainName(field.name)), ...inputs(field)),
    );
    const note = this.partly ? element("p", { class: "soft" }, say("filters.partly", { n: this.partly })) : null;
    this.panel.replaceChildren(...groups, ...(note ? [note] : []));
    this.panel.setAttribute("aria-label", say("filters.title"));
    this.#reflect();
  }

  /** Set the panel's inputs from the filters. */
  #reflect() {
    const byField = new Map(this.filters.map(parsed).filter(Boolean).map((each) => [each.field, each]));
    for (const group of this.panel.querySelectorAll("fieldset")) {
      const condition = byField.get(group.dataset.field) ?? {};
      const chosen = condition.any_of ?? ("equals" in condition ? [String(condition.equals)] : []);
      for (const input of group.querySelectorAll("input")) {
        if (input.type === "checkbox") {
          input.checked = chosen.includes(input.value);
        } else {
          input.value = condition[input.name] ?? "";
        }
      }
    }
  }

  /** Replace a field's condition with that of its inputs. */
  #read(group) {
    const field = this.fields.find((each) => each.name === group.dataset.field);
    const condition = conditionOf(field, [...group.querySelectorAll("input")]);
    const others = this.filters.filter((filter) => parsed(filter)?.field !== field.name);
    this.changed(condition ? [...others, JSON.stringify({ field: field.name, ...condition })] : others);
  }
}

/** Whether a field is useful for filtering: not if nearly every image has a different value, such as a title. */
function offered(field) {
  if (field.type === "keyword") {
    const most = field.values[0]?.images ?? 0;
    return most > 1 && most >= field.images / 100;
  }
  return field.type === "bool" || (field.min !== null && field.min !== field.max);
}

function inputs(field) {
  if (field.type === "keyword" || field.type === "bool") {
    return field.values.map(({ value, images }) =>
      element(
        "label",
        { class: "choice" },
        element("input", { type: "checkbox", value: String(value) }),
        element("span", { dir: "auto" }, typeof value === "boolean" ? say(`filters.${value}`) : value),
        element("span", { class: "soft" }, images.toLocaleString()),
      ),
    );
  }
  return ["gte", "lte"].map((edge) => {
    const name = say(edge === "gte" ? "filters.from" : "filters.to");
    const label = say("filters.of", { edge: name, field: plainName(field.name) });
    const about = { name: edge, "aria-label": label };
    const input =
      field.type === "datetime"
        ? element("input", { ...about, type: "text", placeholder: field[edge === "gte" ? "min" : "max"].slice(0, 10), title: say("filters.date") })
        : element("input", { ...about, type: "number", step: "any", placeholder: field[edge === "gte" ? "min" : "max"] });
    return element("span", { class: "edge" }, element("span", { class: "soft", "aria-hidden": "true" }, name), input);
  });
}

function conditionOf(field, fields) {
  if (field.type === "keyword" || field.type === "bool") {
    const chosen = fields.filter((input) => input.checked).map((input) => input.value);
    if (field.type === "keyword") {
      return chosen.length ? { any_of: chosen } : null;
    }
    // Yes and no together match everything.
    return chosen.length === 1 ? { equals: chosen[0] === "true" } : null;
  }
  const edges = fields.filter((input) => input.value !== "");
  const read = (input) => (field.type === "datetime" ? input.value.trim() : input.valueAsNumber);
  return edges.length ? Object.fromEntries(edges.map((input) => [input.name, read(input)])) : null;
}

/** The condition of a filter written by this panel; null for other filters. */
function parsed(filter) {
  if (!filter.startsWith("{")) {
    return null;
  }
  try {
    const condition = JSON.parse(filter);
    return typeof condition.field === "string" ? condition : null;
  } catch {
    return null;
  }
}

/** A filter as readable text. */
function described(filter) {
  const { field, any_of: values, equals, gte, lte } = parsed(filter) ?? {};
  const name = field ? plainName(field) : "";
  const shown = (value) => (typeof value === "string" ? date(value) : String(value));
  if (Array.isArray(values)) {
    return `${name}: ${values.join(", ")}`;
  }
  if (typeof equals === "boolean") {
    return `${name}: ${say(`filters.${equals}`)}`;
  }
  if (gte !== undefined || lte !== undefined) {
    const from = gte === undefined ? "" : ` ${say("filters.from")} ${shown(gte)}`;
    return `${name}${from}${lte === undefined ? "" : ` ${say("filters.to")} ${shown(lte)}`}`;
  }
  return filter;
}
