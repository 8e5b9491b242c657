// Suggested queries. Every example has a match in the demo gallery; examples at the same position are translations of
// each other. Rate limits count each of them.
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

/** The suggestions, and the code of their language: the page's language if the models understand it, else English. */
export function proposed(multilingual) {
  const code = multilingual && language in QUERIES ? language : "en";
  return { code, ...QUERIES[code] };
}
