// @ts-check
/** Starts the public page: chooses the language, reads which campaign the address names, and opens it. */
import { nowMs, Refusal } from "../shared/requests.js";
import { campaignIn, firstOf, pathOf } from "./campaign.js";
import { Page } from "./page.js";
import { button, by, element } from "./parts.js";
import { readCampaign, readCampaigns, readFirstResults } from "./results.js";
import { languageOf, Texts } from "./texts.js";
/** @import { CampaignSummary } from "../shared/documents.d.ts" */

const storageKey = "dianzan:lang";

function remembered() {
  try {
    return localStorage.getItem(storageKey);
  } catch {
    return null; // storage is blocked: the browser's own languages decide
  }
}

/** @param {string} language */
function remember(language) {
  try {
    localStorage.setItem(storageKey, language);
  } catch {
    // blocked: the address carries the choice
  }
}

function chosenTexts() {
  const asked = new URLSearchParams(location.search).get("lang");
  const language = languageOf(asked, remembered(), navigator.languages);
  if (language === asked) remember(language);
  return new Texts(language);
}

/**
 * Fills every [data-word] of the static page, and the document's language.
 * @param {Texts} texts
 */
function translate({ language, words }) {
  const other = language === "zh" ? "en" : "zh";
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const worded of document.querySelectorAll("[data-word]")) {
    worded.textContent = /** @type {Record<string, string>} */ (words)[String(worded.getAttribute("data-word"))];
  }
  by("query").setAttribute("placeholder", words.searchHint);
  by("language").textContent = other === "en" ? "English" : "中文";
  by("language").lang = other;
  by("language").setAttribute("hreflang", other);
  by("language").setAttribute("href", `?lang=${other}`);
}

/**
 * @param {CampaignSummary[]} campaigns
 * @param {string | null} shown
 * @param {Texts} texts
 */
function showOthers(campaigns, shown, { language }) {
  const others = campaigns.filter((each) => each.id !== shown);
  by("others").hidden = others.length === 0;
  by("others").querySelector("ul")?.replaceChildren(...others.map((each) => {
    const link = element("a", "", (language === "en" && each.title_en) || each.title);
    link.href = pathOf(each.id);
    return element("li", "", link);
  }));
}

/** @param {Texts} texts */
async function open(texts) {
  const campaigns = await readCampaigns();
  const id = location.pathname === "/" ? firstOf(campaigns, nowMs()) : campaignIn(location.pathname);
  showOthers(campaigns, id, texts);
  if (!id) return tellTrouble(campaigns.length ? texts.words.noPage : texts.words.noneYet, texts);
  const [campaign, results] = await Promise.all([readCampaign(id), readFirstResults(id), customElements.whenDefined("dianzan-like")]);
  const page = new Page(campaign, results, texts);
  page.listen();
  page.show(results);
}

/**
 * @param {string} text
 * @param {Texts} texts
 */
function tellTrouble(text, texts) {
  by("loading").hidden = true;
  by("trouble").hidden = false;
  by("trouble").replaceChildren(element("p", "", text), button("plain", texts.words.retry, () => start(texts)));
}

/** @param {Texts} texts */
async function start(texts) {
  by("trouble").hidden = true;
  by("loading").hidden = false;
  by("loading").textContent = texts.words.loading;
  try {
    await open(texts);
  } catch (error) {
    console.error("dianzan: the page did not open:", error);
    const missing = error instanceof Refusal && error.code === "no_campaign";
    tellTrouble(missing ? texts.words.noCampaign : texts.words.pageFailed, texts);
  }
}

const texts = chosenTexts();
translate(texts);
start(texts);
