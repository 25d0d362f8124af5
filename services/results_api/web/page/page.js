// @ts-check
/** Owns the public page of one campaign: shows it, and keeps it up to date. */
import { nowMs } from "../shared/requests.js";
import { phaseOf } from "../shared/phase.js";
import { aboutOf, embedTags, recordPath } from "./campaign.js";
import { Grid } from "./grid.js";
import { by, element, part } from "./parts.js";
import { LiveResults, newsOfResults, readCampaign, readFirstResults } from "./results.js";
import { paragraphsOf, Story } from "./story.js";
import { number } from "./texts.js";
/** @import { VoterNews } from "../button/voter.js" */
/** @import { CampaignSummary, MyLike, Results } from "../shared/documents.d.ts" */
/** @import { Phase } from "../shared/phase.js" */
/** @import { News } from "./results.js" */
/** @import { Texts } from "./texts.js" */

const renewMsMax = 3000; // all open pages learn of a change at once, and read it spread over this
const clockMsEvery = 10000; // the phase and the time left are never staler than this

export class Page {
  /**
   * @param {CampaignSummary} campaign
   * @param {Results} results
   * @param {Texts} texts
   */
  constructor(campaign, results, texts) {
    this.campaign = campaign;
    this.texts = texts;
    /** @type {boolean | null} */
    this.hidden = null; // not known before the first numbers
    /** @type {Phase | null} */
    this.phase = null;
    this.asOf = results.as_of;
    this.renewing = false;
    this.closesTold = ""; // the end that was asked about before the buttons lock
    /** @type {{ likes: MyLike[], remaining: number | null, unread?: boolean }} */
    this.voter = { remaining: null, likes: [] };
    this.sort = /** @type {HTMLSelectElement} */ (by("sort"));
    this.query = /** @type {HTMLInputElement} */ (by("query"));
    this.story = new Story(/** @type {HTMLDialogElement} */ (by("story")), campaign.id, texts);
    this.grid = new Grid(by("candidates"), campaign.id, results.results, texts, (candidate) => this.story.open(candidate));
    this.showVoter(this.voter);
  }

  /** Reads rules, roster and state anew, some while after hearing that they have changed. */
  async renew() {
    if (this.renewing) return;
    this.renewing = true;
    try {
      await new Promise((resume) => { setTimeout(resume, Math.random() * renewMsMax); });
      const { id } = this.campaign;
      const [campaign, results] = await Promise.all([readCampaign(id), readFirstResults(id)]);
      this.campaign = campaign;
      this.phase = null;
      this.grid.replace(results.results);
      this.show(results);
      this.showVoter(this.voter);
      this.search(this.query.value.trim());
    } catch (refusal) {
      console.warn("dianzan: the campaign's changes:", refusal);
    } finally {
      this.renewing = false;
    }
    this.tellTime();
  }

  /** @param {Results} results */
  show(results) {
    this.showCampaign();
    by("totals").hidden = false;
    by("tools").hidden = results.results.length === 0;
    by("loading").hidden = results.results.length > 0;
    by("loading").textContent = this.texts.words.empty;
    this.take(newsOfResults(results));
    this.showEmbed();
  }

  /** What the campaign says of itself: its names in the reader's language, and its foot. */
  showCampaign() {
    const { language, words } = this.texts;
    const { title, title_en: titleEn, brand, brand_en: brandEn } = this.campaign;
    const shown = (language === "en" && titleEn) || title;
    document.title = shown;
    by("title").textContent = shown;
    part(document, ".brand").textContent = (language === "en" && brandEn) || brand || words.brand;
    by("about").replaceChildren(...aboutOf(this.campaign).flatMap(([name, text]) =>
      [element("dt", "", words[name]), element("dd", "", ...paragraphsOf(text).map((line) => element("p", "", line)))]));
    by("about").hidden = by("about").children.length === 0;
  }

  /**
   * While results are hidden there is no rank to sort by; the seal brings it.
   * @param {boolean} hidden
   */
  hide(hidden) {
    if (hidden === this.hidden) return;
    this.hidden = hidden;
    const byRank = /** @type {HTMLOptionElement} */ (part(this.sort, "[value=rank]"));
    byRank.hidden = hidden;
    byRank.disabled = hidden;
    this.sort.value = hidden ? "code" : "rank";
    this.grid.sortBy(this.sort.value);
  }

  /** @param {News} news */
  take(news) {
    this.asOf = news.as_of;
    if (news.version > this.campaign.version) this.renew();
    if (news.sealed) this.campaign.state = "sealed";
    this.grid.take(news.counts, news.people_estimated);
    this.story.take(news.counts);
    this.hide(news.likes === null);
    this.showTotals(news);
    this.showRecord();
    this.tellTime();
  }

  /** @param {News} news */
  showTotals(news) {
    const totals = /** @type {const} */ ({ "total-likes": news.likes, "total-people": news.people });
    for (const [id, total] of Object.entries(totals)) {
      by(id).hidden = total === null;
      part(by(id), "dd").textContent = total === null ? "" : number(total);
    }
    part(document, ".estimate").hidden = !news.people_estimated;
    by("as-of").textContent = this.texts.freshness(news, this.campaign.timezone);
  }

  silence() {
    by("as-of").textContent = this.texts.stale(this.asOf, this.campaign.timezone);
  }

  tellTime() {
    const phase = phaseOf(this.campaign, nowMs());
    if (phase === "closed" && this.campaign.state === "published" && this.closesTold !== this.campaign.closes) {
      this.closesTold = this.campaign.closes; // it may have been put off: that is asked before the buttons lock
      this.renew();
      return;
    }
    const text = this.texts.phase(phase, this.campaign, nowMs());
    if (by("phase").textContent !== text) by("phase").textContent = text;
    if (phase === this.phase) return;
    this.phase = phase;
    by("phase").dataset.phase = phase;
    by("remaining").hidden = phase !== "open";
    this.grid.lock(phase);
    this.story.lock(phase);
  }

  /** @param {{ likes: MyLike[], remaining: number | null, unread?: boolean }} voter */
  showVoter({ likes, remaining, unread = false }) {
    this.voter = { likes, remaining, unread };
    const { window: span, likes_per_window: quota } = this.campaign;
    const { remaining: left, remainingToday: leftToday } = this.texts.words;
    part(by("remaining"), "dt").textContent = span === "day" ? leftToday : left;
    part(by("remaining"), "dd").textContent = unread ? this.texts.words.readingLikes : number(remaining ?? quota);
    const receipts = new Map(likes.map((like) => [like.candidate, like.receipt]));
    this.grid.showReceipts(receipts);
    this.story.showReceipts(receipts);
  }

  /** The event stream tells of the seal, a refused like of the close before it. */
  close() {
    if (this.campaign.state === "published") this.campaign.state = "closed";
    this.tellTime();
  }

  showEmbed() {
    const [first] = this.grid.cards.keys();
    const [publisher = ""] = this.campaign.publishers;
    const tags = embedTags(location.origin, this.campaign.id, first || "c01", publisher);
    by("embed").hidden = false;
    part(by("embed"), "code").textContent = tags;
  }

  showRecord() {
    by("record").hidden = this.campaign.state !== "sealed";
    part(by("record"), "a").setAttribute("href", recordPath(this.campaign.id));
  }

  listen() {
    by("tools").addEventListener("submit", (event) => event.preventDefault());
    this.sort.addEventListener("change", () => this.grid.sortBy(this.sort.value));
    this.query.addEventListener("input", () => this.search(this.query.value.trim()));
    document.addEventListener("dianzan-voter", (event) => {
      this.hear(/** @type {CustomEvent<VoterNews>} */ (event).detail);
    });
    setInterval(() => this.tellTime(), clockMsEvery);
    if (this.campaign.state === "sealed") return;
    new LiveResults(this.campaign.id, (news) => this.take(news), () => this.silence()).start();
  }

  /** @param {string} query */
  search(query) {
    const left = this.grid.filter(query);
    by("found").textContent = query ? this.texts.found(left) : "";
  }

  /** @param {VoterNews} voter */
  hear(voter) {
    if (voter.campaign !== this.campaign.id) return;
    this.showVoter(voter);
    if (voter.closed) this.close();
  }
}
