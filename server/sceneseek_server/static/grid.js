// The results as rows of pictures. What is shown stays where it is: frames are laid out from the pictures' own sizes
// before any of them has loaded, and more results only ever come below.
import { thumbnail } from "./api.js";
import { element } from "./elements.js";
import { titleOf } from "./fields.js";
import { say } from "./language.js";
import { levelOf, mark } from "./marks.js";
import { proportions, sizes } from "./rows.js";

// Beyond these, pictures are fetched when they come near.
const AT_ONCE = 16;

export class Grid {
  /**
   * place: where the list of results goes; each search gets a list of its own, so that none is moved by another's
   * heading.
   * linked: the address at which a result is open, by its id.
   * open: called with a result's id when it is chosen.
   */
  constructor(place, linked, open) {
    this.place = place;
    this.list = place.querySelector("ol");
    this.linked = linked;
    this.items = [];
    this.ratios = [];
    this.shown = 0;
    this.complete = true;
    this.width = 0;
    place.addEventListener("click", (event) => {
      const link = event.target.closest("li a");
      const plain = !(event.ctrlKey || event.metaKey || event.shiftKey || event.altKey);
      if (link && plain) {
        event.preventDefault();
        open(link.dataset.id);
      }
    });
    place.addEventListener("keydown", (event) => this.#move(event));
    new ResizeObserver(() => this.#room() !== this.width && this.#lay()).observe(place);
  }

  /** Show a search's results in place of those before. */
  show(answer, results, complete) {
    this.items = [];
    this.ratios = [];
    this.shown = 0;
    this.width = 0;
    this.calibrated = answer?.calibrated ?? true;
    const list = this.list.cloneNode(false);
    list.removeAttribute("aria-busy");
    this.list.replaceWith(list);
    this.list = list;
    this.extend(results, complete);
  }

  /** Show more of them, all those before included. */
  extend(results, complete) {
    for (const result of results.slice(this.items.length)) {
      this.items.push(this.#item(result));
      this.ratios.push(proportions(result));
    }
    this.complete = complete;
    this.#lay();
  }

  /** Say that others are on their way. */
  busy() {
    this.list.setAttribute("aria-busy", "true");
  }

  /** Put the focus on the result of an id, or of a number from 0; whether there is one. */
  focus(which = 0) {
    const item = typeof which === "string" ? this.items.find((each) => each.dataset.id === which) : this.items[which];
    const link = item?.isConnected ? item.querySelector("a") : null;
    link?.focus();
    return Boolean(link);
  }

  /** The width of the rows in whole pixels, never more than there is: clientWidth may be rounded up. */
  #room() {
    return Math.floor(this.list.getBoundingClientRect().width);
  }

  #lay() {
    this.width = this.#room();
    const gap = Number.parseFloat(getComputedStyle(this.list).columnGap) || 0;
    const made = sizes(this.ratios, this.width, gap, this.complete);
    made.forEach(([width, height], i) => {
      const item = this.items[i];
      item.style.width = `${width}px`;
      item.querySelector(".frame").style.height = `${height}px`;
    });
    if (made.length > this.shown) {
      this.list.append(...this.items.slice(this.shown, made.length));
    } else {
      this.items.slice(made.length, this.shown).forEach((item) => item.remove());
    }
    this.shown = made.length;
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
      // A picture that is dragged onto the page is searched by; see picture.js.
      draggable: "true",
    });
    const similar = result.duplicates ? say("result.similar", { n: result.duplicates }) : "";
    const count = similar
      ? element("span", { class: "similar", title: similar }, element("span", { "aria-hidden": "true" }, `+${result.duplicates}`), element("span", { class: "spoken" }, similar))
      : null;
    const marked = result.score !== null && this.calibrated;
    return element(
      "li",
      { "data-id": result.id },
      element(
        "a",
        { href: this.linked(result.id), "data-id": result.id },
        element("span", { class: "frame" }, picture, count),
        marked ? mark(levelOf(result.score, result.match)) : null,
        title ? element("span", { class: "title", dir: "auto", "aria-hidden": "true", title }, title) : null,
      ),
    );
  }

  /** The arrow keys, Home and End: from picture to picture, as they lie. */
  #move(event) {
    const link = event.target.closest("li a");
    if (!link || event.ctrlKey || event.metaKey || event.altKey || event.shiftKey) {
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

/** The item in the row above or below whose middle is the nearest. */
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
