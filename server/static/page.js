// The search page: the address carries the query, the form and the examples change it, answers come from
// /v1/search. Addresses are relative to the page, so that it works under any prefix.
"use strict";

const K = 24;

const form = document.querySelector("#search");
const field = document.querySelector("#query");
const examples = document.querySelector("#examples");
const errorLine = document.querySelector("#error");
const summary = document.querySelector("#summary");
const results = document.querySelector("#results");
const template = document.querySelector("#result");

let running = null;

form.addEventListener("submit", (event) => {
  event.preventDefault();
  open(field.value);
});

examples.addEventListener("click", (event) => {
  const link = event.target.closest("a");
  const plain = !(event.ctrlKey || event.metaKey || event.shiftKey);
  if (link && plain) {
    event.preventDefault();
    open(new URL(link.href).searchParams.get("q"));
  }
});

window.addEventListener("popstate", restore);
restore();

function open(query) {
  history.pushState(null, "", `?${new URLSearchParams({ q: query })}`);
  restore();
}

// Show what the address says.
function restore() {
  const query = new URLSearchParams(location.search).get("q");
  field.value = query ?? "";
  document.title = query ? `${query} · sceneseek` : "sceneseek";
  if (query === null) {
    running?.abort();
    show([], "", "");
  } else {
    search(query);
  }
}

async function search(query) {
  running?.abort();
  const mine = (running = new AbortController());
  results.setAttribute("aria-busy", "true");
  const start = performance.now();
  try {
    const response = await fetch(`v1/search?${new URLSearchParams({ q: query, k: K })}`, { signal: mine.signal });
    const answer = await response.json();
    if (response.ok) {
      show(answer.results, described(answer, performance.now() - start), "");
    } else {
      show([], "", answer.hint ? `${answer.detail}: ${answer.hint}` : answer.detail);
    }
  } catch (error) {
    if (error.name !== "AbortError") {
      show([], "", "The service does not answer. Is `sceneseek serve` running?");
    }
  }
}

function described(answer, elapsed) {
  const count = answer.results.length;
  const notes = [
    `${count} ${count === 1 ? "image" : "images"}, the best of ${answer.shortlist} compared`,
    `${elapsed.toFixed(0)} ms, of which ${answer.timings_ms.total.toFixed(1)} ms searching`,
  ];
  if (!answer.calibrated) {
    notes.push("scores are not calibrated: read them as an order only");
  }
  if (answer.truncated) {
    notes.push("the description was too long, its end was ignored");
  }
  return `${notes.join(" · ")}.`;
}

function show(found, text, error) {
  results.removeAttribute("aria-busy");
  results.replaceChildren(...found.map(drawn));
  summary.textContent = text;
  errorLine.textContent = error;
  errorLine.hidden = !error;
}

function drawn(result) {
  const item = template.content.cloneNode(true);
  const image = item.querySelector("img");
  const name = result.path.split("/").pop();
  image.src = result.thumbnail;
  image.alt = `${result.rank}: ${name}`;
  item.querySelector("a").href = result.image;
  const path = item.querySelector(".path");
  path.textContent = name;
  path.title = result.path;
  item.querySelector("meter").value = result.score;
  const score = item.querySelector(".score span");
  score.textContent = `score ${result.score.toFixed(2)}`;
  score.title = `similarity ${result.similarity.toFixed(3)}`;
  const similar = item.querySelector(".similar");
  similar.textContent = `+${result.duplicates} similar`;
  similar.hidden = !result.duplicates;
  return item;
}
