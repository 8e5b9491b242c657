// What is shown while nothing is indexed yet: the command to type. The search page takes its place when something is.
import { byId, element, renew } from "./elements.js";
import { say } from "./language.js";

const KIND = "urn:sceneseek:problem:nothing-indexed";

/** Whether a problem document says that nothing is indexed yet. */
export function isFirst(problem) {
  return problem.type === KIND;
}

export class First {
  /** section: where it is; field: the search field, which gets the focus when there is something to search. */
  constructor(section, field) {
    this.section = section;
    this.field = field;
  }

  get shown() {
    return !this.section.hidden;
  }

  /** Show what the problem document of `/readyz` says. */
  show({ command, stack_command: stack, building }) {
    const settings = /\b(BUNDLE|INDEX)\b/.test(command) ? element("p", { class: "soft" }, say("first.settings")) : null;
    renew(byId("first-commands"), [typed("first.type", command), settings, stack ? typed("first.stack", stack) : null]);
    renew(byId("first-state"), [say(building ? "first.building" : "first.waiting")]);
    this.#set(true);
  }

  /** Make place for the search. */
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
