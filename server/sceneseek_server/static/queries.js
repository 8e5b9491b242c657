// Queries that the page proposes. Every example finds a match in the demo gallery; those of one place in the lists are
// the same query. A service with a rate limit counts each that is asked.
import { language } from "./language.js";

export const QUERIES = {
  en: {
    placeholder: "two people on a bench by the sea",
    examples: [
      "two dogs playing in the snow",
      "a sailing boat on the sea",
      "a cup of coffee",
      "a bird with bright feathers",
      "a red flower",
      "a musical instrument",
      "a bowl of fruit",
      "a red car",
      "an airplane in the sky",
      "a horse in a meadow",
      "a hot air balloon",
      "a butterfly on a flower",
    ],
  },
  ru: {
    placeholder: "двое на скамейке у моря",
    examples: [
      "две собаки играют в снегу",
      "парусная лодка в море",
      "чашка кофе",
      "птица с ярким оперением",
      "красный цветок",
      "музыкальный инструмент",
      "миска с фруктами",
      "красная машина",
      "самолёт в небе",
      "лошадь на лугу",
      "воздушный шар",
      "бабочка на цветке",
    ],
  },
};

/** What to propose: in the page's language if the models read it, else in English; with its code. */
export function proposed(multilingual) {
  const code = multilingual && language in QUERIES ? language : "en";
  return { code, ...QUERIES[code] };
}
