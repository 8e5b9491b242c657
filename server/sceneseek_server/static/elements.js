// Elements made in one call. Texts are set as text, never as markup.

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

/** A button of a text, which does `act`. */
export function button(text, act, about = {}) {
  return element("button", { type: "button", class: "plain", onclick: act, ...about }, text);
}

/** Whether a click or a key comes with another one, which gives it a meaning of the browser's. */
export function modified(event) {
  return event.ctrlKey || event.metaKey || event.shiftKey || event.altKey;
}

/** Elements with a space between one and the next, for those who hear or copy them. */
export function apart(elements) {
  return elements.flatMap((each, i) => (i ? [" ", each] : [each]));
}

/** Give an element other children, unless it shows the same: so that nothing is announced or selected in vain. */
export function renew(place, children) {
  const made = element("div", {}, ...children);
  if (place.innerHTML !== made.innerHTML) {
    place.replaceChildren(...made.childNodes);
  }
}

/** The element of an id, which the page has. */
export function byId(id) {
  return document.getElementById(id);
}
