// A score as a mark that people read: the four levels in which the ratings that it was learned from were given.
import { element } from "./elements.js";
import { say } from "./language.js";

export const LEVELS = [4, 3, 2, 1];

/**
 * The level of a score in [0, 1], 1 to 4: the rating that it is nearest to, since a rating r is learned as (r - 1) / 3.
 * What is below the threshold of a match is not said to match.
 */
export function levelOf(score, match) {
  const level = Math.round(score * 3) + 1;
  return match === false ? Math.min(level, 2) : level;
}

/** The mark of a level. */
export function mark(level) {
  const pips = LEVELS.map((_, i) => element("i", i < level ? { class: "on" } : {}));
  return element(
    "span",
    { class: "mark", "data-level": level },
    element("span", { class: "pips", "aria-hidden": "true" }, ...pips),
    element("span", {}, say(`mark.${level}`)),
  );
}
