// A result's metadata for display: its title, and the format of values.
import { date, say } from "./language.js";

// Names of title fields, the best first.
const TITLES = ["title", "titel", "titre", "название", "name", "caption", "подпись", "label", "headline", "description", "описание"];

/** The title of a result; empty if it has none. */
export function titleOf(result) {
  const byName = new Map(Object.entries(result.metadata ?? {}).map(([name, value]) => [name.toLowerCase(), value]));
  const found = TITLES.map((name) => byName.get(name)).find((value) => typeof value === "string" && value);
  return found ?? result.path?.split("/").pop() ?? "";
}

/** The text in a result's picture, on one line and in quotes. */
export function textOf(result) {
  return say("result.text", { text: result.text.replaceAll("\n", " · ") });
}

/** A metadata value as text. */
export function written(value) {
  if (Array.isArray(value)) {
    return value.map(written).join(", ");
  }
  if (value !== null && typeof value === "object") {
    return "lat" in value && "lon" in value ? `${value.lat}, ${value.lon}` : JSON.stringify(value);
  }
  if (typeof value === "boolean") {
    return say(`filters.${value}`);
  }
  return typeof value === "string" ? date(value) : String(value);
}

/** A field's name without the quotes used in filters. */
export function plainName(name) {
  return name.replaceAll('"', "");
}
