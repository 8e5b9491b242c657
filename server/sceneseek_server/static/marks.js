// A score as a readable mark: the four levels of the ratings that it was learned from.
import { element } from "./elements.js";
import { say } from "./language.js";

export const LEVELS = [4, 3, 2, 1];

/**
 * The level of a score in [0, 1], 1 to 4: the nearest rating, where a rating r is learned as (r - 1) / 3. A result
 * below the threshold of a match has at most level 2.
 */
export function levelOf(score, match) {
  const level = Math.round(score * 3) + 1;
  return match === false ? Math.min(level, 2) : level;
}

/** The element of a level. */
export function mark(level) {
  const pips = LEVELS.map((_, i) => element("i", i < level ? { class: "on" } : {}));
  return element(
    "span",
    { class: "mark", "data-level": level },
    element("span", { class: "pips", "aria-hidden": "true" }, ...pips),
    element("span", {}, say(`mark.${level}`)),
  );
}
