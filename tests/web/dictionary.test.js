// @ts-check
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { dictionary } from "../../services/results_api/web/page/words.js";
import { filled, wordsIn } from "../../services/results_api/web/shared/words.js";

const web = new URL("../../services/results_api/web/", import.meta.url);
const page = readFileSync(new URL("page/index.html", web), "utf8");
const phrases = Object.entries(dictionary);

/** @param {string} text */
const placesIn = (text) => new Set(text.match(/\{\w+\}/g));

test("every phrase is said in both languages, in the same places the same values", () => {
  for (const [name, { zh, en }] of phrases) {
    assert(zh.trim() && en.trim(), name);
    // A reader of Chinese is in the campaign's own time zone; only English names it.
    const inEnglish = placesIn(en.replace(" (UTC{zone})", ""));
    assert.deepEqual(placesIn(zh), inEnglish, name);
  }
});

test("no phrase stands in the dictionary twice", () => {
  for (const language of /** @type {const} */ (["zh", "en"])) {
    const texts = Object.values(wordsIn(dictionary, language));
    assert.deepEqual(texts.filter((text, index) => texts.indexOf(text) !== index), []);
  }
});

test("every phrase is said somewhere", () => {
  const files = readdirSync(web, { recursive: true, encoding: "utf8" }).filter((path) => /\.(js|html)$/.test(path));
  const sources = files.filter((path) => !path.endsWith("words.js")).map((path) => readFileSync(new URL(path, web), "utf8"));
  const said = new Set(sources.join("\n").match(/\w+/g));
  for (const name of ["person", "team", "needsScript"]) said.add(name); // the API's own words; a line of index.html
  assert.deepEqual(phrases.map(([name]) => name).filter((name) => !said.has(name)), []);
});

test("the page shows the dictionary's Chinese until its script runs", () => {
  const words = /** @type {Record<string, string>} */ (wordsIn(dictionary, "zh"));
  const shown = Array.from(page.matchAll(/data-word="(\w+)"[^>]*>([^<]*)</g), ([, name, text]) => [name, text]);
  assert(shown.length > 10);
  assert.deepEqual(shown, shown.map(([name]) => [name, words[name]]));
});

test("without a script the page says in both languages that it needs one", () => {
  const { zh, en } = dictionary.needsScript;
  assert(page.includes(`<noscript><p class="notice">${zh}${en}</p></noscript>`));
});

test("no word of the page stands in index.html alone", () => {
  const worded = page
    .replace(/<noscript>.*<\/noscript>/g, "")
    .replace(/<(\w+)[^>]*data-word="\w+"[^>]*>[^<]*<\/\1>/g, "");
  assert.equal(worded.replace(/<[^>]*>/g, "").trim(), "English", "the language switch names the other language");
});

test("a value takes the place of its name, and the text of a value stays as it is", () => {
  assert.equal(filled("{a} of {b}", { a: 1, b: "{a}" }), "1 of {a}");
});
