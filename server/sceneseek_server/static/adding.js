// Pictures that somebody adds to the collection: sent a few at a time, and told of one by one until they are found or
// refused. Where a name is taken by another picture, the picture gets a number: nothing is ever replaced.
import { ask, original, pause } from "./api.js";
import { button, byId, element } from "./elements.js";
import { say } from "./language.js";
import { explained } from "./problems.js";

const AT_ONCE = 2;
// Milliseconds between two looks at what became of those that were sent, and how many are looked at together.
const EVERY = 500;
const LOOKED_AT = 8;
// How many names of a picture are tried, and how often one is sent that comes at a bad moment.
const NAMES = 100;
const TRIES = 20;

export class Adding {
  /**
   * heard: `.open(id)`, to show an image; `.found()` when the collection has changed.
   */
  constructor(heard) {
    this.heard = heard;
    this.button = byId("add");
    this.panel = byId("adding");
    this.list = byId("adding-list");
    this.state = byId("adding-state");
    this.items = [];
    this.sending = 0;
    this.looking = false;
    const files = byId("add-files");
    this.button.addEventListener("click", () => files.click());
    files.addEventListener("change", () => {
      this.add([...files.files]);
      files.value = "";
    });
    byId("adding-close").addEventListener("click", () => this.#close());
  }

  /** Whether the caller may add pictures: only then can it be seen that one could. */
  permit(may) {
    this.button.hidden = !may;
    byId("drop-add").hidden = !may;
  }

  add(files) {
    for (const file of files) {
      const name = element("span", { class: "name", dir: "auto" }, file.name);
      const told = element("span", { class: "told" });
      this.items.push({ file, told, state: "waiting", id: "" });
      this.list.append(element("li", {}, name, " ", told));
      this.#tell(this.items.at(-1), "waiting");
    }
    this.panel.hidden = !this.items.length;
    this.#send();
  }

  #close() {
    const busy = this.items.some(({ state }) => ["waiting", "sending"].includes(state));
    this.panel.hidden = true;
    if (!busy) {
      this.items = [];
      this.list.replaceChildren();
    }
    this.button.focus();
  }

  #tell(item, state, why = "") {
    item.state = state;
    item.told.replaceChildren(say(`add.${state}`, { why }));
    item.told.classList.toggle("amiss", state === "refused");
    if (state === "found") {
      item.told.append(" ", button(say("add.open"), () => this.heard.open(item.id)));
    }
    const count = (wanted) => this.items.filter((each) => each.state === wanted).length;
    const parts = [say("add.count", { n: this.items.length, found: count("found") })];
    if (count("refused")) {
      parts.push(say("add.count.refused", { n: count("refused") }));
    }
    this.state.textContent = parts.join(" · ");
  }

  /** Send those that wait, a few at a time. */
  async #send() {
    const item = this.items.find(({ state }) => state === "waiting");
    if (!item || this.sending >= AT_ONCE) {
      return;
    }
    this.sending += 1;
    this.#tell(item, "sending");
    this.#send();
    try {
      item.id = (await put(item.file)).id;
      this.#tell(item, "pending");
      this.#look();
    } catch (refusal) {
      this.#tell(item, "refused", explained(refusal));
    }
    this.sending -= 1;
    this.#send();
  }

  /** Look at what became of those that were sent, until that is known of all. */
  async #look() {
    if (this.looking) {
      return;
    }
    this.looking = true;
    for (let waiting; (waiting = this.items.filter(({ state }) => state === "pending")).length; ) {
      await pause(EVERY);
      const answers = await Promise.allSettled(waiting.slice(0, LOOKED_AT).map(({ id }) => ask(`${original(id)}/status`)));
      answers.forEach(({ value, reason }, i) => this.#answered(waiting[i], value, reason));
      if (answers.some(({ value }) => value?.state === "indexed")) {
        this.heard.found();
      }
    }
    this.looking = false;
  }

  #answered(item, status, refusal) {
    if (status?.state === "indexed") {
      item.id = status.id;
      this.#tell(item, "found");
    } else if (status && status.state !== "pending") {
      this.#tell(item, "refused", status.reason ?? say("add.deleted"));
    } else if (refusal && !refusal.passes) {
      this.#tell(item, "refused", explained(refusal));
    }
  }
}

/** Put a file under its own name, or with a number where that is another picture's. */
async function put(file) {
  const type = file.type.startsWith("image/") ? file.type : "application/octet-stream";
  let tries = 0;
  for (let number = 1; ; ) {
    try {
      const options = { method: "PUT", headers: { "Content-Type": type }, body: file };
      return await ask(original(numbered(file.name, number)), options);
    } catch (refusal) {
      if (refusal.status === 428 && number < NAMES) {
        number += 1;
      } else if (refusal.passes && tries < TRIES) {
        tries += 1;
        await pause(refusal.seconds * 1000);
      } else {
        throw refusal;
      }
    }
  }
}

/** `beach.jpg`, `beach (2).jpg` */
function numbered(name, number) {
  const dot = name.lastIndexOf(".");
  return number === 1 || dot < 1 ? name : `${name.slice(0, dot)} (${number})${name.slice(dot)}`;
}
