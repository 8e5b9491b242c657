// The large view of an image: details, explanation of its rank, and actions.
import { Refusal, ask, original, pause, thumbnail } from "./api.js";
import { button, element, modified } from "./elements.js";
import { textOf, titleOf, written } from "./fields.js";
import { decimal, say } from "./language.js";
import { levelOf, mark } from "./marks.js";
import { explained } from "./problems.js";
import { Rating } from "./rating.js";
import { byLikeness } from "./terms.js";

// Maximum enlargement of small pictures, and the minimum width in pixels of tiny ones.
const MAX_ENLARGEMENT = 2;
const SMALLEST = 240;
// Milliseconds between two polls of a deleted picture's status, and the maximum number of polls.
const EVERY = 500;
const POLLS = 120;

export class Viewer {
  /**
   * handlers: `.step(by)`, `.closed()`, `.like(id)`, `.less(id)`, `.duplicates(id)`, `.deleted(id)` once searches no
   * longer find it, and `.link(id)`, which returns the address to copy.
   */
  constructor(dialog, handlers) {
    this.dialog = dialog;
    this.handlers = handlers;
    this.id = "";
    this.#build();
    this.rating = new Rating(this.rated);
    // Escape: the page closes the view by changing the address.
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      handlers.closed();
    });
    dialog.addEventListener("click", (event) => event.target === dialog && handlers.closed());
    dialog.addEventListener("keydown", (event) => this.#key(event));
  }

  /**
   * Show an image.
   *
   * id: the id of the image.
   * result: the search result; null if it is not in the results, then its details are fetched.
   * answer, state: the answer and the state of the search.
   * last: whether it is the last result.
   */
  async show(id, result, answer, state, last) {
    const another = id !== this.id;
    this.id = id;
    this.previous.disabled = !result || result.rank === 1;
    this.next.disabled = !result || last;
    if (!this.dialog.open) {
      this.dialog.showModal();
    }
    if (another) {
      this.message.textContent = "";
      this.#fill(result, answer, state);
      this.dialog.scrollTop = 0;
    }
    if (another && !result) {
      await this.#unlisted(id, state);
    }
  }

  /** Show the button only if the caller may delete pictures. */
  permit(may) {
    this.deletion.hidden = !may;
  }

  /** Close the view. */
  hide() {
    this.id = "";
    if (this.dialog.open) {
      this.dialog.close();
    }
    this.whole.removeAttribute("src");
    this.thumbnail.removeAttribute("src");
  }

  async #unlisted(id, state) {
    try {
      const found = await ask(`v1/images/${encodeURIComponent(id)}/details`);
      if (this.id === id) {
        this.#fill(found, null, state);
      }
    } catch (error) {
      if (this.id === id) {
        const known = error instanceof Refusal;
        this.title.textContent = known && error.status !== 404 && error.status !== 400 ? explained(error) : say("viewer.gone");
      }
    }
  }

  #fill(result, answer, state) {
    const title = result ? titleOf(result) : "";
    this.title.textContent = title || (result?.rank ? say("result.number", { n: result.rank }) : say("viewer.untitled"));
    this.place.textContent = title && result.rank ? say("viewer.place", { n: result.rank }) : "";
    this.#picture(result);
    this.score.replaceChildren(...(answer && result ? explanation(result, answer, state) : []));
    this.score.hidden = !this.score.childElementCount;
    this.about.replaceChildren(...(result ? facts(result) : []));
    this.actions.hidden = !result;
    this.less.hidden = !(result && answer);
    this.rating.show(result ? state.text : "", this.id);
    if (result) {
      this.original.href = original(result.id);
      this.duplicates.hidden = !result.duplicates;
      this.duplicates.textContent = result.duplicates ? say("viewer.duplicates", { n: result.duplicates }) : "";
    }
  }

  #picture(result) {
    this.whole.classList.remove("there");
    for (const image of [this.whole, this.thumbnail]) {
      image.removeAttribute("src");
    }
    this.frame.hidden = !result;
    if (result) {
      const [width, height] = [result.width || 1, result.height || 1];
      this.frame.style.aspectRatio = `${width} / ${height}`;
      this.frame.style.setProperty("--shape", width / height);
      this.frame.style.setProperty("--bearable", `${Math.max(width * MAX_ENLARGEMENT, SMALLEST)}px`);
      this.whole.alt = this.title.textContent;
      this.thumbnail.src = thumbnail(result.id);
      this.whole.src = original(result.id);
    }
  }

  #key(event) {
    if (modified(event)) {
      return;
    }
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (step) {
      event.preventDefault();
      (step < 0 ? this.previous : this.next).click();
    }
  }

  async #copy() {
    const link = new URL(this.handlers.link(this.id), location.href).href;
    const done = await copied(link, this.dialog);
    this.message.textContent = say(done ? "viewer.copied" : "viewer.uncopied");
  }

  /** Delete the picture, and wait until searches no longer find it. */
  async #delete() {
    const id = this.id;
    const tell = (text) => this.id === id && (this.message.textContent = text);
    if (!confirm(say("viewer.delete.sure"))) {
      return;
    }
    try {
      let { state } = await ask(original(id), { method: "DELETE" });
      tell(say("viewer.deleting"));
      for (let polls = 0; state === "deleting" && polls < POLLS; polls += 1) {
        await pause(EVERY);
        ({ state } = await ask(`${original(id)}/status`));
      }
      if (state === "deleted") {
        this.handlers.deleted(id);
      }
    } catch (refusal) {
      tell(explained(refusal));
    }
  }

  #build() {
    const sign = (label, act, text, kind) =>
      button(text, act, { class: `plain ${kind}`, "aria-label": say(label), title: say(label) });
    this.title = element("h2", { id: "viewer-title", dir: "auto" });
    this.place = element("p", { class: "soft" });
    this.previous = sign("viewer.previous", () => this.handlers.step(-1), "‹", "step");
    this.next = sign("viewer.next", () => this.handlers.step(1), "›", "step");
    this.thumbnail = element("img", { alt: "", class: "small" });
    this.whole = element("img", { alt: "", class: "whole", decoding: "async" });
    // The thumbnail stays visible if the browser cannot show the file, such as TIFF.
    this.whole.addEventListener("load", () => this.whole.classList.add("there"));
    this.frame = element("div", { class: "picture" }, this.thumbnail, this.whole);
    this.score = element("section", { class: "score" });
    this.rated = element("section", { class: "rating" });
    this.about = element("dl", { class: "facts" });
    this.message = element("p", { class: "soft", role: "status" });
    this.duplicates = button("", () => this.handlers.duplicates(this.id));
    this.less = button(say("viewer.less"), () => this.handlers.less(this.id));
    this.original = element("a", { class: "button plain", target: "_blank", rel: "noopener" }, say("viewer.original"));
    this.deletion = button(say("viewer.delete"), () => this.#delete(), { hidden: true });
    this.actions = element(
      "div",
      { class: "actions" },
      button(say("viewer.like"), () => this.handlers.like(this.id)),
      this.less,
      this.duplicates,
      button(say("viewer.copy"), () => this.#copy()),
      this.original,
      this.deletion,
    );
    const close = sign("viewer.close", () => this.handlers.closed(), "×", "close");
    this.dialog.append(
      element(
        "div",
        { class: "sheet" },
        element("div", { class: "stage" }, this.previous, this.frame, this.next),
        element(
          "div",
          { class: "side" },
          element("div", { class: "head" }, element("div", {}, this.title, this.place), close),
          this.actions,
          this.message,
          this.score,
          this.rated,
          element("section", {}, element("h3", {}, say("viewer.metadata")), this.about),
        ),
      ),
    );
  }
}

function explanation(result, answer, state) {
  const parts = [element("h3", {}, say("viewer.score"))];
  const add = (...children) => parts.push(element("p", {}, ...children));
  if (result.score !== null) {
    const values = { score: decimal(result.score, 2), query: answer.query };
    if (answer.calibrated) {
      const level = levelOf(result.score, result.match);
      parts.push(element("p", { class: "verdict-mark" }, mark(level)));
      add(say("viewer.match", values));
    } else {
      add(say("viewer.match.plain", values));
    }
    if (result.match === false) {
      add(say("viewer.below", { threshold: decimal(answer.threshold, 2) }));
    }
  }
  if (result.text_match) {
    add(say("viewer.words", { text: textOf(result) }));
  }
  const { rank_before: before, rank_after: after, text_similarity: text, image_similarity: image } = result.explanation ?? {};
  // A result found by its text has no rank among the nearest.
  if (after && !result.text_match) {
    const way = before === after ? "same" : before > after ? "up" : "down";
    add(say(`viewer.rank.${byLikeness(state) ? (state.text ? "combined" : "image") : way}`, { before, after }));
  }
  if (typeof text === "number") {
    add(say("viewer.likeness.text", { cosine: decimal(text, 3) }));
  }
  if (typeof image === "number") {
    add(say("viewer.likeness.image", { cosine: decimal(image, 3) }));
  }
  return parts.length > 1 ? parts : [];
}

function facts(result) {
  const pairs = Object.entries(result.metadata ?? {}).map(([name, value]) => [name, written(value)]);
  if (result.path) {
    pairs.push([say("viewer.path"), result.path]);
  }
  pairs.push([say("viewer.size"), say("viewer.pixels", { width: result.width, height: result.height, format: result.format })]);
  if (result.text) {
    pairs.push([say("viewer.text"), result.text]);
  }
  return pairs.flatMap(([name, value]) => [element("dt", { dir: "auto" }, name), element("dd", { dir: "auto" }, value)]);
}

/** Copy a text; returns whether it worked. The clipboard API exists only on secure addresses. */
export async function copied(text, within) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = element("textarea", { class: "spoken", "aria-hidden": "true", tabindex: "-1" });
    const focused = document.activeElement;
    field.value = text;
    within.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    focused?.focus();
    return done;
  }
}
