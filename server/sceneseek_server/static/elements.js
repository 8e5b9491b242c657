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

/** Elements with a space between one and the next, for those who hear or copy them. */
export function apart(elements) {
  return elements.flatMap((each, i) => (i ? [" ", each] : [each]));
}

/** The element of an id, which the page has. */
export function byId(id) {
  return document.getElementById(id);
}
