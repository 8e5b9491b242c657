// Creation of elements. Texts are set as text, never as markup.

/** `element("p", { class: "soft", hidden: true, onclick: f }, "text", child)`. */
export function element(tag, about = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(about)) {
    if (name.startsWith("on")) {
      made.addEventListener(name.slice(2), value);
    } else if (value === true) {
      made.setAttribute(name, "");
    } else if (value !== false && value !== null && value !== undefined) {
      made.setAttribute(name, value);
    }
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

/** A button with a text and a click handler. */
export function button(text, act, about = {}) {
  return element("button", { type: "button", class: "plain", onclick: act, ...about }, text);
}

/** Whether a modifier key is pressed with a click or a key, which the browser then handles. */
export function modified(event) {
  return event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
}

/** Elements separated by spaces, for screen readers and copying. */
export function apart(elements) {
  return elements.flatMap((each, i) => (i ? [" ", each] : [each]));
}

/** Replace the children of an element if they differ, so that unchanged text is not announced again or deselected. */
export function renew(place, children) {
  const made = element("div", {}, ...children);
  if (place.innerHTML !== made.innerHTML) {
    place.replaceChildren(...made.childNodes);
  }
}

/** The element with an id, which must exist. */
export function byId(id) {
  return document.getElementById(id);
}
