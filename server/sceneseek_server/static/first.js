// The page shown while nothing is indexed: the command to run. The search page replaces it after indexing.
import { byId, element, renew } from "./elements.js";
import { say } from "./language.js";

const KIND = "urn:sceneseek:problem:nothing-indexed";

/** Whether a problem document means that nothing is indexed yet. */
export function isFirst(problem) {
  return problem.type === KIND;
}

export class First {
  /** section: its element; field: the search field, which gets the focus when the search page appears. */
  constructor(section, field) {
    this.section = section;
    this.field = field;
  }

  get shown() {
    return !this.section.hidden;
  }

  /** Show the command of the problem document of `/readyz`. */
  show({ command, stack_command: stack, building }) {
    const settings = /\b(BUNDLE|INDEX)\b/.test(command) ? element("p", { class: "soft" }, say("first.settings")) : null;
    renew(byId("first-commands"), [typed("first.type", command), settings, stack ? typed("first.stack", stack) : null]);
    renew(byId("first-state"), [say(building ? "first.building" : "first.waiting")]);
    this.#set(true);
  }

  /** Hide it, and show the search page. */
  hide() {
    if (this.shown) {
      const idle = document.activeElement === document.body || this.section.contains(document.activeElement);
      this.#set(false);
      if (idle) {
        this.field.focus();
      }
    }
  }

  #set(shown) {
    this.section.hidden = !shown;
    document.documentElement.classList.toggle("first", shown);
  }
}

function typed(key, command) {
  return element("p", {}, say(key), element("code", {}, command));
}
