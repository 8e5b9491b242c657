// The page's state, in its address: what is searched for, and which image is open. A link carries all of it but an
// uploaded picture, which the history keeps (as bytes, so that going back and loading anew find it again).

export const DEFAULT_WEIGHT = 0.55;

/**
 * What the page shows:
 *   text        the query; empty without one
 *   image       the id of an image to search by, or ""
 *   picture     an uploaded picture to search by (see picture.js), or null
 *   weight      the text's share where there is an image or a picture too
 *   terms       further things to search by, as `terms=` of /v1/search takes them (see terms.js)
 *   filters     conditions, as `filter=` of /v1/search takes them
 *   sort        the field by which results are ordered, as `sort=` takes it; "" for the best first
 *   duplicates  whether near-duplicates are results of their own
 *   view        the id of the image that is open, or ""
 */
export const NOTHING = {
  text: "",
  image: "",
  picture: null,
  weight: DEFAULT_WEIGHT,
  terms: [],
  filters: [],
  sort: "",
  duplicates: false,
  view: "",
};

/** The state that the address and the history say. */
export function read() {
  const said = new URLSearchParams(location.search);
  const weight = Number.parseFloat(said.get("text_weight") ?? "");
  return {
    text: said.get("q") ?? "",
    image: said.get("image") ?? "",
    picture: history.state?.picture ?? null,
    weight: weight >= 0 && weight <= 1 ? weight : DEFAULT_WEIGHT,
    terms: said.getAll("terms").filter(Boolean),
    filters: said.getAll("filter").filter(Boolean),
    sort: said.get("sort") ?? "",
    duplicates: said.get("keep_duplicates") === "true",
    view: said.get("view") ?? "",
  };
}

/** The address of a state, relative to the page. */
export function address(state) {
  const said = searchOf(state);
  if (state.view) {
    said.set("view", state.view);
  }
  // The page's own path, where nothing is said: "?" alone would stay in the address bar.
  return said.size ? `?${said}` : location.pathname;
}

/** What is searched for, as the arguments of /v1/search; an uploaded picture goes beside them. */
export function searchOf(state) {
  const said = new URLSearchParams();
  if (state.text) {
    said.set("q", state.text);
  }
  if (state.image) {
    said.set("image", state.image);
  }
  if (state.text && (state.image || state.picture) && state.weight !== DEFAULT_WEIGHT) {
    said.set("text_weight", state.weight);
  }
  for (const term of state.terms) {
    said.append("terms", term);
  }
  for (const filter of state.filters) {
    said.append("filter", filter);
  }
  if (state.sort) {
    said.set("sort", state.sort);
  }
  if (state.duplicates) {
    said.set("keep_duplicates", "true");
  }
  return said;
}

/** Whether there is anything to search by. */
export function searches(state) {
  return Boolean(state.text || state.image || state.picture || state.terms.some((term) => !term.startsWith("-")));
}

/** Whether two states search for the same. */
export function sameSearch(one, other) {
  return String(searchOf(one)) === String(searchOf(other)) && one.picture?.name === other.picture?.name;
}

/** Write a state into the address: as a new entry of the history, or in place of the present one. */
export function write(state, anew, opened = false) {
  const kept = { picture: state.picture, opened };
  history[anew ? "pushState" : "replaceState"](kept, "", address(state));
}

/** Whether going back closes the open image. */
export function openedHere() {
  return Boolean(history.state?.opened);
}
