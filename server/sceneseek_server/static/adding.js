// Uploads of pictures to the collection, a few at a time, with the state of each until it is searchable or refused. If
// a name is taken by another picture, the picture gets a number: nothing is ever replaced.
import { ask, original, pause } from "./api.js";
import { button, byId, element } from "./elements.js";
import { say } from "./language.js";
import { explained } from "./problems.js";

const AT_ONCE = 2;
// Milliseconds between two polls of the uploads' status, and the number of uploads per poll.
const EVERY = 500;
const POLLED = 8;
// Maximum number of names tried for a picture, and of retries after temporary errors.
const NAMES = 100;
const TRIES = 20;

export class Adding {
  /**
   * handlers: `.open(id)`, to show an image; `.found()` when the collection has changed.
   */
  constructor(handlers) {
    this.handlers = handlers;
    this.button = byId("add");
    this.panel = byId("adding");
    this.list = byId("adding-list");
    this.state = byId("adding-state");
    this.items = [];
    this.sending = 0;
    this.polling = false;
    const files = byId("add-files");
    this.button.addEventListener("click", () => files.click());
    files.addEventListener("change", () => {
      this.add([...files.files]);
      files.value = "";
    });
    byId("adding-close").addEventListener("click", () => this.#close());
  }

  /** Show the button only if the caller may add pictures. */
  permit(may) {
    this.button.hidden = !may;
    byId("drop-add").hidden = !may;
  }

  add(files) {
    for (const file of files) {
      const name = element("span", { class: "name", dir: "auto" }, file.name);
      const message = element("span", { class: "message" });
      this.items.push({ file, message, state: "waiting", id: "" });
      this.list.append(element("li", {}, name, " ", message));
      this.#report(this.items.at(-1), "waiting");
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

  #report(item, state, why = "") {
    item.state = state;
    item.message.replaceChildren(say(`add.${state}`, { why }));
    item.message.classList.toggle("amiss", state === "refused");
    if (state === "found") {
      item.message.append(" ", button(say("add.open"), () => this.handlers.open(item.id)));
    }
    const count = (wanted) => this.items.filter((each) => each.state === wanted).length;
    const parts = [say("add.count", { n: this.items.length, found: count("found") })];
    if (count("refused")) {
      parts.push(say("add.count.refused", { n: count("refused") }));
    }
    this.state.textContent = parts.join(" · ");
  }

  /** Upload waiting pictures, a few at a time. */
  async #send() {
    const item = this.items.find(({ state }) => state === "waiting");
    if (!item || this.sending >= AT_ONCE) {
      return;
    }
    this.sending += 1;
    this.#report(item, "sending");
    this.#send();
    try {
      item.id = (await put(item.file)).id;
      this.#report(item, "pending");
      this.#poll();
    } catch (refusal) {
      this.#report(item, "refused", explained(refusal));
    }
    this.sending -= 1;
    this.#send();
  }

  /** Poll the status of uploaded pictures until all are searchable or refused. */
  async #poll() {
    if (this.polling) {
      return;
    }
    this.polling = true;
    for (let waiting; (waiting = this.items.filter(({ state }) => state === "pending")).length; ) {
      await pause(EVERY);
      const answers = await Promise.allSettled(waiting.slice(0, POLLED).map(({ id }) => ask(`${original(id)}/status`)));
      answers.forEach(({ value, reason }, i) => this.#answered(waiting[i], value, reason));
      if (answers.some(({ value }) => value?.state === "indexed")) {
        this.handlers.found();
      }
    }
    this.polling = false;
  }

  #answered(item, status, refusal) {
    if (status?.state === "indexed") {
      item.id = status.id;
      this.#report(item, "found");
    } else if (status && status.state !== "pending") {
      this.#report(item, "refused", status.reason ?? say("add.deleted"));
    } else if (refusal && !refusal.passes) {
      this.#report(item, "refused", explained(refusal));
    }
  }
}

/** Upload a file under its own name, or with a number if another picture has that name. */
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
