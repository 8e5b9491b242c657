// One image, large: what it is, why it is where it is, and what to do with it.
import { Refusal, ask, original, pause, thumbnail } from "./api.js";
import { button, element, modified } from "./elements.js";
import { textOf, titleOf, written } from "./fields.js";
import { decimal, say } from "./language.js";
import { levelOf, mark } from "./marks.js";
import { explained } from "./problems.js";
import { Rating } from "./rating.js";
import { byLikeness } from "./terms.js";

// Small pictures are enlarged so far, and those of a few pixels to this width.
const MOST_ENLARGED = 2;
const SMALLEST = 240;
// Milliseconds between two looks at whether a deleted picture is found no more, and how often that is looked at.
const EVERY = 500;
const LOOKS = 120;

export class Viewer {
  /**
   * heard: `.step(by)`, `.closed()`, `.like(id)`, `.less(id)`, `.duplicates(id)`, `.deleted(id)`, once it is found no
   * more, and `.link(id)`, the address to copy.
   */
  constructor(dialog, heard) {
    this.dialog = dialog;
    this.heard = heard;
    this.id = "";
    this.#build();
    this.rating = new Rating(this.rated);
    // Escape: the page closes it, by way of the address.
    dialog.addEventListener("cancel", (event) => {
      event.preventDefault();
      heard.closed();
    });
    dialog.addEventListener("click", (event) => event.target === dialog && heard.closed());
    dialog.addEventListener("keydown", (event) => this.#key(event));
  }

  /**
   * Show an image.
   *
   * id: the image's.
   * result: what a search said of it; null where none did, and then the service is asked for what it is.
   * answer: that search's answer, and `state` what was searched for.
   * last: whether nothing comes after it.
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
      this.told.textContent = "";
      this.#fill(result, answer, state);
      this.dialog.scrollTop = 0;
    }
    if (another && !result) {
      await this.#unlisted(id, state);
    }
  }

  /** Whether the caller may delete pictures: only then can it be seen that one could. */
  permit(may) {
    this.deletion.hidden = !may;
  }

  /** Close it. */
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
      this.frame.style.setProperty("--bearable", `${Math.max(width * MOST_ENLARGED, SMALLEST)}px`);
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
    const link = new URL(this.heard.link(this.id), location.href).href;
    const done = await copied(link, this.dialog);
    this.told.textContent = say(done ? "viewer.copied" : "viewer.uncopied");
  }

  /** Delete the picture, and wait until searches do not find it. */
  async #delete() {
    const id = this.id;
    const tell = (text) => this.id === id && (this.told.textContent = text);
    if (!confirm(say("viewer.delete.sure"))) {
      return;
    }
    try {
      let { state } = await ask(original(id), { method: "DELETE" });
      tell(say("viewer.deleting"));
      for (let looks = 0; state === "deleting" && looks < LOOKS; looks += 1) {
        await pause(EVERY);
        ({ state } = await ask(`${original(id)}/status`));
      }
      if (state === "deleted") {
        this.heard.deleted(id);
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
    this.previous = sign("viewer.previous", () => this.heard.step(-1), "‹", "step");
    this.next = sign("viewer.next", () => this.heard.step(1), "›", "step");
    this.thumbnail = element("img", { alt: "", class: "small" });
    this.whole = element("img", { alt: "", class: "whole", decoding: "async" });
    // The small one stays where the browser cannot show the file, as with TIFF.
    this.whole.addEventListener("load", () => this.whole.classList.add("there"));
    this.frame = element("div", { class: "picture" }, this.thumbnail, this.whole);
    this.score = element("section", { class: "score" });
    this.rated = element("section", { class: "rating" });
    this.about = element("dl", { class: "facts" });
    this.told = element("p", { class: "soft", role: "status" });
    this.duplicates = button("", () => this.heard.duplicates(this.id));
    this.less = button(say("viewer.less"), () => this.heard.less(this.id));
    this.original = element("a", { class: "button plain", target: "_blank", rel: "noopener" }, say("viewer.original"));
    this.deletion = button(say("viewer.delete"), () => this.#delete(), { hidden: true });
    this.actions = element(
      "div",
      { class: "actions" },
      button(say("viewer.like"), () => this.heard.like(this.id)),
      this.less,
      this.duplicates,
      button(say("viewer.copy"), () => this.#copy()),
      this.original,
      this.deletion,
    );
    const close = sign("viewer.close", () => this.heard.closed(), "×", "close");
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
          this.told,
          this.score,
          this.rated,
          element("section", {}, element("h3", {}, say("viewer.metadata")), this.about),
        ),
      ),
    );
  }
}

function explanation(result, answer, state) {
  const said = [element("h3", {}, say("viewer.score"))];
  const add = (...parts) => said.push(element("p", {}, ...parts));
  if (result.score !== null) {
    const values = { score: decimal(result.score, 2), query: answer.query };
    if (answer.calibrated) {
      const level = levelOf(result.score, result.match);
      said.push(element("p", { class: "verdict-mark" }, mark(level)));
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
  // Its place among the nearest is not known where its text found it.
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
  return said.length > 1 ? said : [];
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

/** Whether the browser let a text be copied; it has the newer way on secure addresses only. */
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
