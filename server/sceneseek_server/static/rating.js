// Four buttons by which people say how well an image matches what they asked for.
import { ask, send } from "./api.js";
import { button, element } from "./elements.js";
import { say } from "./language.js";
import { LEVELS, mark } from "./marks.js";
import { explained } from "./problems.js";

export class Rating {
  constructor(place) {
    this.place = place;
    // Whether the service has said that it collects none.
    this.off = false;
    this.given = new Map();
    this.said = element("p", { class: "soft", role: "status" });
    this.buttons = LEVELS.map((level) => {
      const made = button(mark(level), () => this.rate(level), { "aria-pressed": "false" });
      made.append(element("kbd", { "aria-hidden": "true" }, String(level)));
      return made;
    });
    const group = element("div", { role: "group", "aria-labelledby": "rating-title", class: "levels" }, ...this.buttons);
    place.append(element("h3", { id: "rating-title" }, say("rating.title")), group, this.said);
  }

  /** Ask about a pair of a query and an image; nothing is asked without a query. */
  show(query, image) {
    this.query = query;
    this.image = image;
    this.place.hidden = this.off || !query;
    this.said.textContent = "";
    this.#press();
  }

  /** Send a rating, 1 to 4. */
  async rate(rating) {
    if (this.place.hidden) {
      return;
    }
    const { query, image } = this;
    const pair = `${query}\n${image}`;
    const stillShown = () => this.query === query && this.image === image;
    this.said.textContent = say("rating.saving");
    try {
      await send("v1/feedback", { query, image, rating, key: key() });
      this.given.set(pair, rating);
      if (stillShown()) {
        this.said.textContent = say("rating.saved", { mark: say(`mark.${rating}`) });
        this.#press();
      }
    } catch (error) {
      // Not found is the image, or a place for ratings: then the image is there.
      this.off ||= error.status === 404 && (await known(image));
      if (stillShown()) {
        this.said.textContent = this.off ? say("rating.off") : say("rating.failed", { why: explained(error) });
      }
    }
  }

  #press() {
    const given = this.given.get(`${this.query}\n${this.image}`);
    this.buttons.forEach((each, i) => each.setAttribute("aria-pressed", String(LEVELS[i] === given)));
  }
}

async function known(image) {
  try {
    await ask(`v1/images/${image}/details`);
    return true;
  } catch {
    return false;
  }
}

/** A key of one rating, by which the service knows it again should it arrive twice. */
function key() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
