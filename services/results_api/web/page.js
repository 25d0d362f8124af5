/** Owns the public page: reads one campaign, shows it, and keeps it up to date. */
import { Grid, element } from "./cards.js";
import { nowMs } from "./requests.js";
import { LiveResults, newsOf, readCampaign, readCampaigns, readFirstResults } from "./results.js";
import { Story } from "./story.js";
import { dayAndTime, language, left, number, timeOnly, translate, words } from "./texts.js";

const clockMsEvery = 10000; // the phase and the time left are never staler than this

const by = (id) => document.getElementById(id);

function askedCampaign() {
  const path = /^\/c\/([^/]+)\/?$/.exec(location.pathname);
  return path && decodeURIComponent(path[1]);
}

function phaseOf({ state, opens, closes }) {
  if (state === "sealed") return "sealed";
  if (state === "closed" || nowMs() >= Date.parse(closes)) return "closed";
  return nowMs() < Date.parse(opens) ? "not_open" : "open";
}

class Page {
  constructor(campaign, results) {
    this.campaign = campaign;
    this.estimated = results.people_estimated;
    this.hidden = null; // not known before the first numbers
    this.asOf = results.as_of;
    this.story = new Story(by("story"), campaign.id);
    this.grid = new Grid(by("candidates"), campaign.id, results.results, (candidate) => this.story.open(candidate));
    this.showVoter({ remaining: null, likes: [] });
  }

  show(results) {
    document.title = this.campaign.title;
    by("title").textContent = this.campaign.title;
    by("totals").hidden = false;
    by("tools").hidden = results.results.length === 0;
    by("loading").hidden = results.results.length > 0;
    by("loading").textContent = words.empty;
    this.take(newsOf(results));
    this.showEmbed();
  }

  /** While results are hidden there is no rank to sort by; the seal brings it. */
  hide(hidden) {
    if (hidden === this.hidden) return;
    this.hidden = hidden;
    const byRank = by("sort").querySelector("[value=rank]");
    byRank.hidden = hidden;
    byRank.disabled = hidden;
    by("sort").value = hidden ? "code" : "rank";
    this.grid.sortBy(by("sort").value);
  }

  take(news) {
    this.asOf = news.as_of;
    this.estimated = news.people_estimated ?? (this.estimated && !news.sealed);
    if (news.sealed) this.campaign.state = "sealed";
    this.grid.take(news.counts, this.estimated);
    this.story.take(news.counts);
    this.hide(news.likes === null);
    this.showTotals(news);
    this.showRecord();
    this.tellTime();
  }

  showTotals({ likes, people, sealed }) {
    by("total-likes").hidden = likes === null;
    by("total-people").hidden = people === null;
    by("total-likes").lastElementChild.textContent = likes === null ? "" : number(likes);
    by("total-people").lastElementChild.textContent = people === null ? "" : number(people);
    document.querySelector(".estimate").hidden = !this.estimated;
    const time = timeOnly(this.asOf, this.campaign.timezone);
    const day = dayAndTime(this.asOf, this.campaign.timezone);
    by("as-of").textContent = sealed ? words.final(day) : likes === null ? words.hidden : words.asOf(time);
  }

  silence() {
    by("as-of").textContent = words.stale(timeOnly(this.asOf, this.campaign.timezone));
  }

  tellTime() {
    const { timezone, opens, closes } = this.campaign;
    const phase = phaseOf(this.campaign);
    const times = { opens: dayAndTime(opens, timezone), closes: dayAndTime(closes, timezone), left: left(Date.parse(closes) - nowMs()) };
    const text = words.phases[phase](times);
    if (by("phase").textContent !== text) by("phase").textContent = text;
    if (phase === this.phase) return;
    this.phase = phase;
    by("phase").dataset.phase = phase;
    by("remaining").hidden = phase !== "open";
    this.grid.lock(phase);
    this.story.lock(phase);
  }

  showVoter({ likes, remaining }) {
    const { window: span, likes_per_window: quota } = this.campaign;
    by("remaining").firstElementChild.textContent = words.remaining[span] || words.remaining.campaign;
    by("remaining").lastElementChild.textContent = number(remaining ?? quota);
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
    const tag = `<script src="${location.origin}/like-button.js" defer></script>`;
    const [first] = this.grid.cards.keys();
    const use = `<dianzan-like campaign="${this.campaign.id}" candidate="${first || "c01"}" publisher="${words.embedPublisher}"></dianzan-like>`;
    by("embed").hidden = false;
    by("embed").querySelector("code").textContent = `${tag}\n${use}`;
  }

  showRecord() {
    by("record").hidden = this.campaign.state !== "sealed";
    by("record").querySelector("a").href = `/v1/campaigns/${encodeURIComponent(this.campaign.id)}/tally.csv`;
  }

  listen() {
    by("tools").addEventListener("submit", (event) => event.preventDefault());
    by("sort").addEventListener("change", (event) => this.grid.sortBy(event.target.value));
    by("query").addEventListener("input", (event) => {
      const query = event.target.value.trim();
      const found = this.grid.filter(query);
      by("found").textContent = query ? words.found(found) : "";
    });
    document.addEventListener("dianzan-voter", ({ detail }) => {
      if (detail.campaign !== this.campaign.id) return;
      this.showVoter(detail);
      if (detail.closed) this.close();
    });
    setInterval(() => this.tellTime(), clockMsEvery);
    if (this.campaign.state === "sealed") return;
    new LiveResults(this.campaign.id, (news) => this.take(news), () => this.silence()).start();
  }
}

function showOthers(campaigns, shown) {
  const others = campaigns.filter((each) => each.id !== shown);
  by("others").hidden = others.length === 0;
  by("others").querySelector("ul").replaceChildren(...others.map((each) => {
    const link = element("a", "", each.title);
    link.href = `/c/${encodeURIComponent(each.id)}`;
    return element("li", "", link);
  }));
}

async function open() {
  const campaigns = await readCampaigns();
  const first = campaigns.find((each) => each.state === "published") || campaigns[0];
  const id = askedCampaign() || (first && first.id);
  showOthers(campaigns, id);
  if (!id) return tellTrouble(words.noneYet);
  const [campaign, results] = await Promise.all([readCampaign(id), readFirstResults(id), customElements.whenDefined("dianzan-like")]);
  const page = new Page(campaign, results);
  page.listen();
  page.show(results);
}

function tellTrouble(text) {
  const retry = element("button", "plain", words.retry);
  retry.type = "button";
  retry.addEventListener("click", start);
  by("loading").hidden = true;
  by("trouble").hidden = false;
  by("trouble").replaceChildren(element("p", "", text), retry);
}

async function start() {
  by("trouble").hidden = true;
  by("loading").hidden = false;
  by("loading").textContent = words.loading;
  try {
    await open();
  } catch (error) {
    console.error("dianzan: the page did not open:", error);
    tellTrouble(error.code === "no_campaign" ? words.noCampaign : words.failed);
  }
}

function switchLanguage() {
  const link = by("language");
  const other = language === "zh" ? "en" : "zh";
  link.textContent = other === "en" ? "English" : "中文";
  link.lang = other;
  link.hreflang = other;
  link.href = `?lang=${other}`;
}

translate();
switchLanguage();
by("query").placeholder = words.searchHint;
document.title = words.brand;
by("title").textContent = words.brand;
start();
