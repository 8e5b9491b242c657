// The page's language: that of the browser where there are strings for it, else English.
import english from "./strings.en.js";
import russian from "./strings.ru.js";

const STRINGS = { en: english, ru: russian };

const wanted = navigator.languages.map((tag) => tag.slice(0, 2).toLowerCase());
export const language = wanted.find((tag) => tag in STRINGS) ?? "en";

// As the browser's own tag says, so that 1,000 is 1.000 where people write it so.
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

/** A text whose right-to-left words do not reorder the sentence around it: between Unicode's isolates. */
function isolated(text) {
  return /[\p{Script=Arabic}\p{Script=Hebrew}\p{Script=Syriac}\p{Script=Thaana}]/u.test(text) ? `\u2068${text}\u2069` : text;
}

/** A number with so many decimals. */
export function decimal(value, digits) {
  return value.toLocaleString(locale, { minimumFractionDigits: digits, maximumFractionDigits: digits });
}

/** `2024-05-31` or an ISO 8601 time, as people write it; other text as it is. */
export function date(text) {
  if (/^\d{4}-\d\d-\d\d$/.test(text)) {
    return day.format(new Date(text));
  }
  return /^\d{4}-\d\d-\d\dT\d\d:\d\d/.test(text) ? moment.format(new Date(text)) : text;
}

/** The month of a date or time, as a heading; "" where it is none. */
export function monthOf(text) {
  // A time without an offset is as good as one in UTC, which filters and the order take it for.
  const whole = typeof text === "string" && /T[\d:.]+$/.test(text) ? `${text}Z` : text;
  const found = new Date(typeof whole === "string" ? whole : Number.NaN);
  return Number.isNaN(found.getTime()) ? "" : month.format(found);
}

/** Give the elements that name a string its text. */
export function translate() {
  document.documentElement.lang = language;
  for (const named of document.querySelectorAll("[data-text]")) {
    named.textContent = say(named.dataset.text);
  }
}
