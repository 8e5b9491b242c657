// The results as rows of pictures. Shown pictures never move: frames are laid out from the sizes of the pictures before
// these have loaded, and more results are only added below.
import { thumbnail } from "./api.js";
import { element, modified } from "./elements.js";
import { textOf, titleOf } from "./fields.js";
import { say } from "./language.js";
import { levelOf, mark } from "./marks.js";
import { proportions, sizes } from "./rows.js";

// Number of pictures fetched immediately; further ones are fetched when scrolled near.
const AT_ONCE = 16;

export class Grid {
  /**
   * place: the parent of the list of results; each search gets a new list, so that headings do not shift results.
   * linked: returns the address of an open result by its id.
   * headed: returns the heading of a result, from the result and the answer; "" for none.
   * open: called with the id of a clicked result.
   * selected: called with the ids of the selected results when they change.
   */
  constructor(place, { linked, headed, open, selected }) {
    this.place = place;
    this.headed = headed;
    this.selected = selected;
    this.list = place.querySelector("ol");
    this.linked = linked;
    this.items = [];
    this.ratios = [];
    this.groups = [];
    this.shown = 0;
    this.complete = true;
    this.width = 0;
    place.addEventListener("click", (event) => {
      const link = event.target.closest("li a");
      if (link && !modified(event)) {
        event.preventDefault();
        open(link.dataset.id);
      }
    });
    place.addEventListener("change", (event) => event.target.matches(".select") && this.selected(this.selection()));
    place.addEventListener("keydown", (event) => this.#move(event));
    new ResizeObserver(() => this.#room() !== this.width && this.#lay()).observe(place);
  }

  /** Replace the shown results with those of a search. */
  show(answer, results, complete) {
    this.items = [];
    this.ratios = [];
    this.groups = [];
    this.shown = 0;
    this.width = 0;
    this.answer = answer;
    this.selected([]);
    const list = this.list.cloneNode(false);
    list.removeAttribute("aria-busy");
    this.list.replaceWith(list);
    this.list = list;
    this.extend(results, complete);
  }

  /** Show more results; `results` includes the previous ones. */
  extend(results, complete) {
    for (const result of results.slice(this.items.length)) {
      const heading = this.headed(result, this.answer);
      // A match may follow other results in the next candidates; it stays under their heading.
      if (heading && heading !== this.groups.at(-1)?.text) {
        const item = element("li", { class: "heading" }, element("h2", { dir: "auto" }, heading));
        this.groups.push({ text: heading, start: this.items.length, item });
      }
      this.items.push(this.#item(result));
      this.ratios.push(proportions(result));
    }
    this.complete = complete;
    this.#lay();
  }

  /** Mark the results as being updated. */
  busy() {
    this.list.setAttribute("aria-busy", "true");
  }

  /** Focus the result with an id, or with a number from 0; returns whether it exists. */
  focus(which = 0) {
    const item = typeof which === "string" ? this.items.find((each) => each.dataset.id === which) : this.items[which];
    const link = item?.isConnected ? item.querySelector("a") : null;
    link?.focus();
    return Boolean(link);
  }

  /** The ids of the selected results, in order. */
  selection() {
    return this.items.filter((item) => item.querySelector(".select").checked).map((item) => item.dataset.id);
  }

  /** Clear the selection. */
  unselect() {
    this.items.forEach((item) => (item.querySelector(".select").checked = false));
    this.selected([]);
  }

  /** The width of the rows in whole pixels, rounded down: clientWidth may be rounded up. */
  #room() {
    return Math.floor(this.list.getBoundingClientRect().width);
  }

  #lay() {
    this.width = this.#room();
    const gap = Number.parseFloat(getComputedStyle(this.list).columnGap) || 0;
    const made = this.#sizes(gap);
    made.forEach(([width, height], i) => {
      const item = this.items[i];
      item.style.width = `${width}px`;
      item.querySelector(".frame").style.height = `${height}px`;
    });
    const headings = new Map(this.groups.map((group) => [group.start, group.item]));
    const nodes = (from, to) => this.items.slice(from, to).flatMap((item, i) => [headings.get(from + i), item].filter(Boolean));
    if (made.length > this.shown) {
      this.list.append(...nodes(this.shown, made.length));
    } else {
      nodes(made.length, this.shown).forEach((node) => node.remove());
    }
    this.shown = made.length;
  }

  /** The frames' sizes of as many pictures as fill whole rows; each group begins a row. */
  #sizes(gap) {
    const starts = [...new Set([0, ...this.groups.map((group) => group.start)])];
    return starts.flatMap((start, i) => {
      const last = i === starts.length - 1;
      return sizes(this.ratios.slice(start, starts[i + 1]), this.width, gap, !last || this.complete);
    });
  }

  #item(result) {
    const title = titleOf(result);
    const near = this.items.length < AT_ONCE;
    const picture = element("img", {
      src: thumbnail(result.id),
      alt: title || say("result.number", { n: result.rank }),
      width: result.width,
      height: result.height,
      decoding: "async",
      loading: near ? "eager" : "lazy",
      fetchpriority: near ? "high" : "auto",
      // Dragging a picture onto the page searches by it; see picture.js.
      draggable: "true",
    });
    const similar = result.duplicates ? say("result.similar", { n: result.duplicates }) : "";
    const count = similar
      ? element("span", { class: "similar", title: similar }, element("span", { "aria-hidden": "true" }, `+${result.duplicates}`), element("span", { class: "spoken" }, similar))
      : null;
    const marked = result.score !== null && this.answer.calibrated;
    const name = title || say("result.number", { n: result.rank });
    return element(
      "li",
      { "data-id": result.id },
      element("input", { type: "checkbox", class: "select", "aria-label": say("select.one", { title: name }) }),
      element(
        "a",
        { href: this.linked(result.id), "data-id": result.id },
        element("span", { class: "frame" }, picture, count),
        marked ? mark(levelOf(result.score, result.match)) : null,
        title ? element("span", { class: "title", dir: "auto", "aria-hidden": "true", title }, title) : null,
        result.text_match ? element("span", { class: "text", dir: "auto", title: result.text }, textOf(result)) : null,
      ),
    );
  }

  /** Move the focus between pictures with the arrow keys, Home and End. */
  #move(event) {
    const link = event.target.closest("li a");
    if (!link || modified(event)) {
      return;
    }
    const items = this.items.slice(0, this.shown);
    const at = items.indexOf(link.closest("li"));
    const target = {
      ArrowLeft: () => items[at - 1],
      ArrowRight: () => items[at + 1],
      ArrowUp: () => beside(items, at, -1),
      ArrowDown: () => beside(items, at, 1),
      Home: () => items[0],
      End: () => items.at(-1),
    }[event.key]?.();
    if (target) {
      event.preventDefault();
      target.querySelector("a").focus();
    }
  }
}

/** The item in the row above or below with the nearest center. */
function beside(items, at, step) {
  const here = items[at];
  const middle = (item) => item.offsetLeft + item.offsetWidth / 2;
  let row = null;
  let best = null;
  for (let i = at + step; i >= 0 && i < items.length; i += step) {
    const item = items[i];
    if (item.offsetTop === here.offsetTop) {
      continue;
    }
    row ??= item.offsetTop;
    if (item.offsetTop !== row) {
      break;
    }
    if (!best || Math.abs(middle(item) - middle(here)) < Math.abs(middle(best) - middle(here))) {
      best = item;
    }
  }
  return best;
}
