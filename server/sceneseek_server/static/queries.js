// Queries that the page proposes. Every example finds a match in the demo gallery; those of one place in the lists are
// the same query. A service with a rate limit counts each that is asked.
import { language } from "./language.js";

export const QUERIES = {
  en: {
    placeholder: "two people on a bench by the sea",
    examples: [
      "a cup of coffee",
      "two dogs",
      "a musical instrument",
      "a bird with bright feathers",
      "a red flower",
      "a fire engine",
      "a banana",
      "a red car",
      "an airplane in the sky",
      "a penguin",
      "a helicopter",
      "a butterfly on a flower",
    ],
  },
  ru: {
    placeholder: "двое на скамейке у моря",
    examples: [
      "чашка кофе",
      "две собаки",
      "музыкальный инструмент",
      "птица с ярким оперением",
      "красный цветок",
      "пожарная машина",
      "банан",
      "красная машина",
      "самолёт в небе",
      "пингвин",
      "вертолёт",
      "бабочка на цветке",
    ],
  },
};

/** What to propose: in the page's language if the models read it, else in English; with its code. */
export function proposed(multilingual) {
  const code = multilingual && language in QUERIES ? language : "en";
  return { code, ...QUERIES[code] };
}
