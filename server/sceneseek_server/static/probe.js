// A preview of the query picture next to the search field, and the weight of the words.
import { thumbnail } from "./api.js";
import { button, element } from "./elements.js";
import { say } from "./language.js";
import { drawPreview } from "./picture.js";

export class Probe {
  /** handlers: `.removed()` and `.weighed(weight)`. */
  constructor(place, weighing, range, handlers) {
    this.place = place;
    this.weighing = weighing;
    this.range = range;
    this.handlers = handlers;
    this.shown = "";
    range.addEventListener("change", () => handlers.weighed(range.valueAsNumber));
  }

  /** Show the query picture of a state. */
  show(state) {
    const by = state.picture?.name ?? state.image;
    this.place.hidden = !by;
    this.weighing.hidden = !(by && state.text);
    this.range.value = state.weight;
    if (by === this.shown) {
      return;
    }
    this.shown = by;
    this.place.replaceChildren();
    if (by) {
      const label = say(state.picture ? "probe.picture" : "probe.image");
      const about = { class: null, "aria-label": say("probe.remove"), title: say("probe.remove") };
      const remove = button("×", () => this.handlers.removed(), about);
      this.place.append(state.picture ? preview(state.picture, label) : stored(state.image, label), remove);
    }
  }
}

function preview(picture, label) {
  const canvas = element("canvas", { width: 96, height: 96, role: "img", "aria-label": label, title: label });
  drawPreview(canvas, picture);
  return canvas;
}

function stored(id, label) {
  return element("img", { src: thumbnail(id), alt: label, title: label, width: 96, height: 96 });
}
