// Four buttons to rate how well an image matches the query.
import { ask, send } from "./api.js";
import { button, element } from "./elements.js";
import { say } from "./language.js";
import { LEVELS, mark } from "./marks.js";
import { explained } from "./problems.js";

export class Rating {
  constructor(place) {
    this.place = place;
    // Whether the service does not store ratings.
    this.off = false;
    this.given = new Map();
    this.message = element("p", { class: "soft", role: "status" });
    this.buttons = LEVELS.map((level) => {
      const made = button(mark(level), () => this.rate(level), { "aria-pressed": "false" });
      made.append(element("kbd", { "aria-hidden": "true" }, String(level)));
      return made;
    });
    const group = element("div", { role: "group", "aria-labelledby": "rating-title", class: "levels" }, ...this.buttons);
    place.append(element("h3", { id: "rating-title" }, say("rating.title")), group, this.message);
  }

  /** Show the buttons for a query and an image; hide them without a query. */
  show(query, image) {
    this.query = query;
    this.image = image;
    this.place.hidden = this.off || !query;
    this.message.textContent = "";
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
    this.message.textContent = say("rating.saving");
    try {
      await send("v1/feedback", { query, image, rating, key: key() });
      this.given.set(pair, rating);
      if (stillShown()) {
        this.message.textContent = say("rating.saved", { mark: say(`mark.${rating}`) });
        this.#press();
      }
    } catch (error) {
      // If the image exists, 404 means that the service does not store ratings.
      this.off ||= error.status === 404 && (await known(image));
      if (stillShown()) {
        this.message.textContent = this.off ? say("rating.off") : say("rating.failed", { why: explained(error) });
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

/** A random idempotency key, so that a rating that arrives twice is stored once. */
function key() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
