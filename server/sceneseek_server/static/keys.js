// Keyboard shortcuts and their list. Single-character shortcuts can be disabled, for speech input (WCAG 2.1.4).
import { byId, element } from "./elements.js";
import { say } from "./language.js";

const STORED = "sceneseek.single-keys";
const SHORTCUTS = [
  ["/", "keys.search"],
  ["← → ↑ ↓", "keys.arrows"],
  ["Enter", "keys.enter"],
  ["1 2 3 4", "keys.rate"],
  ["Esc", "keys.escape"],
];

/** handlers: `.search()` for `/`, `.rate(level)` for a digit; each returns whether it did something. */
export function listen(handlers) {
  const single = byId("keys-single");
  single.checked = stored() !== "off";
  single.addEventListener("change", () => store(single.checked ? "on" : "off"));
  byId("keys-list").append(
    ...SHORTCUTS.flatMap(([key, text]) => [
      element("dt", {}, ...key.split(" ").map((each) => element("kbd", {}, each))),
      element("dd", {}, say(text)),
    ]),
  );
  const sheet = byId("keys");
  document.addEventListener("click", (event) => {
    if (!sheet.contains(event.target)) {
      sheet.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && sheet.open) {
      sheet.open = false;
      sheet.querySelector("summary").focus();
      return;
    }
    const typing = event.target.closest?.("input:not([type=checkbox]):not([type=range]), textarea, select");
    if (!single.checked || typing || event.ctrlKey || event.metaKey || event.altKey) {
      return;
    }
    const done = event.key === "/" ? handlers.search() : /^[1-4]$/.test(event.key) && handlers.rate(Number(event.key));
    if (done) {
      event.preventDefault();
    }
  });
}

// A browser may block storage; the shortcuts then stay enabled.
function stored() {
  try {
    return localStorage.getItem(STORED);
  } catch {
    return null;
  }
}

function store(value) {
  try {
    localStorage.setItem(STORED, value);
  } catch {
    // The setting then lasts until the page is closed.
  }
}
