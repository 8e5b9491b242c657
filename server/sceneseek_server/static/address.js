// The page's state in its address: the search and the open image. A link contains all of it except an uploaded picture,
// which is stored in the history (as bytes, so that it survives going back and reloading).

export const DEFAULT_WEIGHT = 0.55;

/**
 * The state:
 *   text        the query, or ""
 *   image       the id of an image to search by, or ""
 *   picture     an uploaded picture to search by (see picture.js), or null
 *   weight      the text's weight if there is also an image or a picture
 *   terms       further terms, in the form of `terms=` of /v1/search (see terms.js)
 *   filters     conditions, in the form of `filter=` of /v1/search
 *   sort        the field to sort by, in the form of `sort=`; "" for the best first
 *   duplicates  whether near-duplicates are results of their own
 *   view        the id of the open image, or ""
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

/** Read the state from the address and the history. */
export function read() {
  const params = new URLSearchParams(location.search);
  const weight = Number.parseFloat(params.get("text_weight") ?? "");
  return {
    text: params.get("q") ?? "",
    image: params.get("image") ?? "",
    picture: history.state?.picture ?? null,
    weight: weight >= 0 && weight <= 1 ? weight : DEFAULT_WEIGHT,
    terms: params.getAll("terms").filter(Boolean),
    filters: params.getAll("filter").filter(Boolean),
    sort: params.get("sort") ?? "",
    duplicates: params.get("keep_duplicates") === "true",
    view: params.get("view") ?? "",
  };
}

/** The address of a state, relative to the page. */
export function address(state) {
  const params = searchOf(state);
  if (state.view) {
    params.set("view", state.view);
  }
  // The page's own path if there are no parameters: "?" alone would stay in the address bar.
  return params.size ? `?${params}` : location.pathname;
}

/** The search as arguments of /v1/search, without an uploaded picture. */
export function searchOf(state) {
  const params = new URLSearchParams();
  if (state.text) {
    params.set("q", state.text);
  }
  if (state.image) {
    params.set("image", state.image);
  }
  if (state.text && (state.image || state.picture) && state.weight !== DEFAULT_WEIGHT) {
    params.set("text_weight", state.weight);
  }
  for (const term of state.terms) {
    params.append("terms", term);
  }
  for (const filter of state.filters) {
    params.append("filter", filter);
  }
  if (state.sort) {
    params.set("sort", state.sort);
  }
  if (state.duplicates) {
    params.set("keep_duplicates", "true");
  }
  return params;
}

/** Whether a state has anything to search by. */
export function searches(state) {
  return Boolean(state.text || state.image || state.picture || state.terms.some((term) => !term.startsWith("-")));
}

/** Whether two states have the same search. */
export function sameSearch(one, other) {
  return String(searchOf(one)) === String(searchOf(other)) && one.picture?.name === other.picture?.name;
}

/** Write a state to the address, as a new entry of the history or in place of the current one. */
export function write(state, push, opened = false) {
  const stored = { picture: state.picture, opened };
  history[push ? "pushState" : "replaceState"](stored, "", address(state));
}

/** Whether going back closes the open image. */
export function openedHere() {
  return Boolean(history.state?.opened);
}
