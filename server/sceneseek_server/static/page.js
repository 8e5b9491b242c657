// The search page. The state is in the address (address.js); the user's actions change it, and `show` renders it. Each
// of the other modules owns a part of the page, and calls handlers for events there.
import { Adding } from "./adding.js";
import * as address from "./address.js";
import { apart, button, byId, element, modified } from "./elements.js";
import { Examples } from "./examples.js";
import { Filters } from "./filters.js";
import { First } from "./first.js";
import { Grid } from "./grid.js";
import * as keys from "./keys.js";
import { decimal, monthOf, say, translate } from "./language.js";
import { Listing } from "./listing.js";
import * as pictures from "./picture.js";
import { Probe } from "./probe.js";
import { proposed } from "./queries.js";
import { explained } from "./problems.js";
import { Selection } from "./selection.js";
import { Status } from "./status.js";
import { Terms, byLikeness, term } from "./terms.js";
import { Viewer } from "./viewer.js";

// Milliseconds after the last keystroke until the search starts: more than between letters, less than after a word.
const PAUSE = 120;
// Milliseconds after which the next search gets its own entry in the history.
const SETTLED = 1500;

translate();

const form = byId("search");
const field = byId("query");
const problemBox = byId("problem");

let state = address.NOTHING;
let typing = 0;
let settling = 0;
let settled = true;
// Whether the models are multilingual; null until known.
let multilingual = null;

const selection = new Selection({
  results: (ids) => listing.results.filter((result) => ids.includes(result.id)),
  searched: (ids) => go({ ...address.NOTHING, terms: ids.map((id) => term(id)) }),
  cleared: () => grid.unselect(),
});
const grid = new Grid(byId("found"), {
  linked: (id) => address.address({ ...state, view: id }),
  headed,
  open: (id) => view(id),
  selected: (ids) => selection.show(ids),
});
const listing = new Listing({ searching, found, extended, failed });
const viewer = new Viewer(byId("viewer"), {
  step,
  closed: close,
  like: (id) => go({ ...address.NOTHING, image: id }),
  less: (id) => go({ ...state, terms: [...state.terms, term(id, { minus: true })], view: "" }),
  duplicates: (id) => go({ ...address.NOTHING, image: id, duplicates: true }),
  deleted,
  // Links cannot contain an uploaded picture; they then open only the image.
  link: (id) => address.address(state.picture ? { ...address.NOTHING, view: id } : { ...state, view: id }),
});
const examples = new Examples(byId("welcome"), byId("examples"), (text) => address.address({ ...address.NOTHING, text }), (text) => go({ ...address.NOTHING, text }));
const filters = new Filters(
  { panel: byId("filters"), toggle: byId("filters-toggle"), label: byId("filters-label"), chips: byId("chips") },
  {
    changed: (chosen) => go({ ...state, filters: chosen, view: "" }),
    folded: () => go({ ...state, duplicates: false, view: "" }),
    // Hidden but laid out, so that nothing shifts when it appears.
    loaded: (fields) => sort.classList.toggle("unseen", !fields.some((field) => field.name === "taken" && field.type === "datetime")),
  },
);
const terms = new Terms((chosen) => go({ ...state, terms: chosen, view: "" }));
const sort = byId("sort");
const order = sort.querySelector("select");
const first = new First(byId("first"), field);
const probe = new Probe(byId("probe"), byId("weight"), byId("weight-range"), {
  removed: () => {
    go({ ...state, image: "", picture: null, duplicates: false, view: "" });
    field.focus();
  },
  weighed: (weight) => go({ ...state, weight, view: "" }),
});
const adding = new Adding({ open: (id) => view(id), found: () => status.refresh() });
const status = new Status(byId("status"), byId("banners"), {
  recovered,
  searchAgain: () => search(true),
  generation: (name) => filters.offer(name),
  multilingual: propose,
  mayWrite: (may) => [adding, viewer].forEach((each) => each.permit(may)),
  first: (problem) => first.show(problem),
  showsProblem: () => !problemBox.hidden && !first.shown,
});

// --- user actions

order.addEventListener("change", () => go({ ...state, sort: order.value, view: "" }));

field.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(typed, PAUSE);
});
field.addEventListener("keydown", (event) => {
  if (event.key === "ArrowDown" && grid.focus()) {
    event.preventDefault();
  }
});
field.addEventListener("blur", settle);
form.addEventListener("submit", (event) => {
  event.preventDefault();
  typed();
  settle();
});
byId("home").addEventListener("click", (event) => {
  if (!modified(event)) {
    event.preventDefault();
    go(address.NOTHING);
    field.focus();
  }
});
byId("found").addEventListener("keydown", (event) => event.key === "Escape" && field.focus());
byId("pick").addEventListener("click", () => byId("file").click());
byId("file").addEventListener("change", ({ target }) => {
  if (target.files.length) {
    searchByFile(target.files[0]);
  }
  target.value = "";
});
pictures.listen(byId("drop"), {
  file: searchByFile,
  image: (id) => go({ ...state, image: id, picture: null, view: "" }),
  neither: () => problem(say("picture.none")),
  add: (files) => adding.add(files),
});
keys.listen({
  search: () => !byId("viewer").open && (field.focus(), field.select(), true),
  rate: (level) => byId("viewer").open && (viewer.rating.rate(level), true),
});
byId("found").addEventListener("click", (event) => event.target.closest("#more") && listing.more());
const nearing = new IntersectionObserver((entries) => entries.some((entry) => entry.isIntersecting) && listing.more(), {
  rootMargin: "0px 0px 1200px 0px",
});
window.addEventListener("popstate", restore);

/** Search for the typed text; continuous typing is one entry in the history. */
function typed() {
  clearTimeout(typing);
  const text = field.value.trim();
  if (text === state.text) {
    return;
  }
  change({ ...state, text, view: "" }, settled);
  settled = false;
  clearTimeout(settling);
  settling = setTimeout(settle, SETTLED);
}

function settle() {
  clearTimeout(settling);
  settled = true;
}

/** Go to another state, like a link. */
function go(next) {
  settle();
  if (!address.sameSearch(state, next)) {
    scrollTo(0, 0);
  }
  change(next, true);
}

function change(next, push) {
  const before = state;
  state = next;
  address.write(state, push);
  show(before);
}

/** Restore the state from the address. */
function restore() {
  const before = state;
  clearTimeout(typing);
  settle();
  state = address.read();
  show(before);
}

async function searchByFile(file) {
  const picture = await pictures.readPicture(file);
  if (picture) {
    go({ ...state, picture, image: "", view: "" });
  } else {
    problem(say("picture.none"));
  }
}

// --- the large view

function view(id) {
  const before = state;
  state = { ...state, view: id };
  address.write(state, !before.view, !before.view || address.openedHere());
  showView();
}

function step(by) {
  const at = listing.results.findIndex((result) => result.id === state.view);
  const target = listing.results[at + by];
  if (target) {
    view(target.id);
  }
  if (at + by >= listing.results.length - 4) {
    listing.more();
  }
}

function close() {
  if (address.openedHere()) {
    history.back();
  } else {
    change({ ...state, view: "" }, false);
  }
}

/** Update the page after an image was deleted. */
function deleted(id) {
  if (state.view === id) {
    close();
  }
  search(true);
  status.refresh();
}

function showView() {
  if (!state.view) {
    const shown = viewer.id;
    viewer.hide();
    if (shown) {
      grid.focus(shown);
    }
    return;
  }
  const at = listing.results.findIndex((result) => result.id === state.view);
  if (at >= 0 || !listing.loading) {
    const last = at === listing.results.length - 1 && listing.complete;
    viewer.show(state.view, listing.results[at] ?? null, listing.answer, state, last);
  }
}

// --- rendering

function show(before) {
  if (field.value.trim() !== state.text) {
    field.value = state.text;
  }
  document.title = state.text ? `${state.text} · sceneseek` : "sceneseek";
  probe.show(state);
  terms.show(state);
  filters.show(state);
  order.value = state.sort;
  examples.show(!address.searches(state));
  if (!address.searches(state)) {
    clear();
  } else if (!address.sameSearch(before, state)) {
    search();
  }
  showView();
}

function search(renewed = false) {
  if (address.searches(state)) {
    listing.start(state, renewed);
  }
}

/** Suggest queries in a language that the models understand. */
function propose(many) {
  if (many !== multilingual) {
    multilingual = many;
    const { placeholder, examples: queries, code } = proposed(many);
    field.placeholder = placeholder;
    examples.propose(queries, code);
    if (listing.answer) {
      verdict(listing.answer);
    }
  }
}

/** Continue when the service answers again, or for the first time. */
function recovered() {
  first.hide();
  if (problemBox.hidden) {
    examples.show(!address.searches(state));
  } else {
    search();
  }
}

function clear() {
  listing.stop();
  status.shows("");
  blank();
  problemBox.hidden = true;
}

/** Clear the results. */
function blank() {
  grid.show(null, [], true);
  byId("summary").textContent = "";
  byId("verdict").hidden = true;
  byId("more").hidden = true;
}

/** The heading of a result: its month if sorted by date, otherwise a heading for results that do not match. */
function headed(result, answer) {
  if (state.sort.endsWith("taken")) {
    return monthOf(result.metadata.taken) || say("sort.undated");
  }
  return !byLikeness(state) && answer.match && result.match === false ? say("verdict.less") : "";
}

function searching() {
  grid.busy();
  if (!listing.results.length) {
    byId("summary").textContent = say("summary.searching");
  }
}

function found(answer, elapsed, renewed) {
  problemBox.hidden = true;
  if (!answer.results.length) {
    problem(say(state.filters.length ? "none.filters" : "none.title"), state.filters.length > 0);
  }
  verdict(answer);
  grid.show(answer, listing.results, listing.complete);
  summary(answer, elapsed, renewed);
  after();
  status.shows(answer.generation);
  if (renewed) {
    status.refresh();
  }
  showView();
}

function extended() {
  const before = grid.shown;
  grid.extend(listing.results, listing.complete);
  byId("summary-shown").textContent = say("summary.shown", { n: listing.results.length });
  if (after()) {
    grid.focus(before);
  }
  showView();
}

/** Add a new button for more results below the current ones; moving the old one would count as a layout shift. */
function after() {
  const more = byId("more");
  const fresh = element("button", { type: "button", id: "more", class: "more plain", hidden: listing.complete }, say("more.loading"));
  const focused = document.activeElement === more;
  more.replaceWith(fresh);
  nearing.disconnect();
  nearing.observe(fresh);
  return focused;
}

function failed(refusal, first) {
  if (!first) {
    byId("more").textContent = say("more.again");
    byId("more").classList.add("amiss");
    return;
  }
  blank();
  problem(explained(refusal));
  if (refusal.kind === "away" || refusal.kind === "unready") {
    status.refresh();
  }
}

function problem(text, byFilters = false) {
  problemBox.replaceChildren(element("p", {}, text));
  if (byFilters) {
    problemBox.append(button(say("none.clear"), () => go({ ...state, filters: [], view: "" })));
  }
  problemBox.hidden = false;
}

function verdict(answer) {
  const nothing = answer.match === false && answer.results.length > 0;
  const foreign = /[^\p{Script=Latin}\p{N}\p{P}\p{S}\s]/u.test(answer.query ?? "");
  const plain = byLikeness(state) ? "verdict.words" : "verdict.nothing";
  byId("verdict").textContent = nothing ? say(foreign && multilingual === false ? "verdict.english" : plain) : "";
  byId("verdict").hidden = !nothing;
}

function summary(answer, elapsed, renewed) {
  const parts = [element("span", { id: "summary-shown" }, say("summary.shown", { n: listing.results.length }))];
  const add = (text, title = null) => parts.push(element("span", { title }, text));
  if (answer.matches !== null && answer.match) {
    add(say(answer.matches < answer.shortlist ? "summary.matches" : "summary.matches.more", { n: answer.matches }));
  }
  add(answer.query ? say("summary.compared", { n: answer.shortlist }) : say("summary.similarity"));
  const times = { all: Math.round(elapsed), inside: decimal(answer.timings_ms.total, 1) };
  add(say("summary.time", { ms: times.all }), say("summary.time.title", times));
  if (answer.query && !answer.calibrated) {
    add(say("summary.uncalibrated"));
  }
  if (answer.truncated) {
    add(say("summary.truncated"));
  }
  for (const hint of answer.hints) {
    add(say(`hint.${hint.kind}`, { field: hint.field, nearest: hint.nearest ?? "" }), hint.text);
  }
  if (renewed) {
    add(say("summary.renewed"));
  }
  byId("summary").replaceChildren(...apart(parts));
}

restore();
status.refresh();
document.documentElement.classList.remove("starting");
