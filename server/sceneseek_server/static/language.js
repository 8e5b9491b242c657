// The page's language: a language of the browser with strings, else English.
import english from "./strings.en.js";
import russian from "./strings.ru.js";

const STRINGS = { en: english, ru: russian };

const wanted = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
export const language = wanted.find((tag) => tag in STRINGS) ?? "en";

// The browser's full tag, for the regional format of numbers and dates.
const locale = navigator.languages.find((tag) => tag.toLowerCase().startsWith(language)) ?? language;
const plural = new Intl.PluralRules(locale);
const whole = new Intl.NumberFormat(locale);
const day = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeZone: "UTC" });
const month = new Intl.DateTimeFormat(locale, { month: "long", year: "numeric", timeZone: "UTC" });
const moment = new Intl.DateTimeFormat(locale, { dateStyle: "medium", timeStyle: "short" });

/** The string of a key, with `{name}` replaced by `values.name`; `values.n` also chooses a plural's form. */
export function say(key, values = {}) {
  const found = STRINGS[language][key];
  const form = typeof found === "string" ? found : (found[plural.select(values.n)] ?? found.other);
  return form.replace(/\{(\w+)\}/g, (_, name) => {
    const value = values[name];
    return typeof value === "number" ? whole.format(value) : isolated(String(value));
  });
}

/** A text with right-to-left words, in Unicode isolates, so that it does not reorder the sentence around it. */
function isolated(text) {
  return /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}]/u.test(text) ? `\u2068${text}\u2069` : text;
}

/** Format a number with a fixed number of decimals. */
export function decimal(value, digits) {
  return value.toLocaleString(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** Format `2024-05-31` or an ISO 8601 time for the locale; other text is unchanged. */
export function date(text) {
  if (/^\d{4}-\d\d-\d\d$/.test(text)) {
    return day.format(new Date(text));
  }
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(text) ? moment.format(new Date(text)) : text;
}

/** The month of a date or time, as a heading; "" if it is not a date. */
export function monthOf(text) {
  // A time without an offset is UTC, as in filters and sorting.
  const whole = typeof text === "string" && /T[\d:.]+$/.test(text) ? `${text}Z` : text;
  const found = new Date(typeof whole === "string" ? whole : Number.NaN);
  return Number.isNaN(found.getTime()) ? "" : month.format(found);
}

/** Set the texts of elements with `data-text`. */
export function translate() {
  document.documentElement.lang = language;
  for (const named of document.querySelectorAll("[data-text]")) {
    named.textContent = say(named.dataset.text);
  }
}
