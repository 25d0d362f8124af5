/** Owns <dianzan-like>: what the button looks like, says and announces. */
import { base, Refusal } from "./requests.js";
import { Tally } from "./tally.js";
import { Voter } from "./voter.js";

const languages = {
  zh: {
    idle: "点赞",
    liked: "已赞",
    pending: "提交中",
    counted: (name) => (name ? `点赞成功：${name}` : "点赞成功"),
    retrying: "网络繁忙，正在重试…",
    failed: "没有记上，请重试",
    already: (when) => (when ? `已经点过赞了，${when} 后可再点` : "已经点过赞了"),
    over: (when) => (when ? `点赞次数用完了，${when} 恢复` : "点赞次数用完了"),
    unknown: "没有这位候选人",
    not_open: "活动还没有开始",
    closed: "点赞已经截止",
    refused: "这次点赞没有被接受",
    moment: (month, day, time) => `${month}月${day}日 ${time}`,
  },
  en: {
    idle: "Like",
    liked: "Liked",
    pending: "Sending",
    counted: (name) => (name ? `Your like for ${name} is counted` : "Your like is counted"),
    retrying: "The network is busy, trying again…",
    failed: "Not recorded, please try again",
    already: (when) => (when ? `Already liked. You can like again from ${when}` : "Already liked"),
    over: (when) => (when ? `No likes left until ${when}` : "No likes left"),
    unknown: "There is no such candidate",
    not_open: "Liking has not opened yet",
    closed: "Liking has closed",
    refused: "This like was not accepted",
    moment: (month, day, time, zone) => `${day}/${month} ${time} (UTC${zone})`,
  },
};

const doubleTapMsMax = 1000; // a second tap this soon after the answer belongs to the first

// Until the sheet is there the button keeps its place, unseen: no flash of a bare one.
const placeholder = ":host { display: inline-block; min-height: 44px } button { visibility: hidden }";
const sheetUrl = `${base}web/like-button.css`;

async function fillSheet(sheet) {
  try {
    const response = await fetch(sheetUrl, { credentials: "omit" });
    if (!response.ok) throw new Error(`status ${response.status}`);
    sheet.replaceSync(await response.text());
  } catch (error) {
    sheet.replaceSync(""); // a bare button still likes
    console.warn("dianzan: like-button.css:", error);
  }
}

/** One sheet for all buttons of the page, allowed by a strict CSP; null in iOS before 16.4, which cannot share sheets. */
function startSheet() {
  if (!("adoptedStyleSheets" in Document.prototype)) return null;
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(placeholder);
  fillSheet(sheet);
  return sheet;
}

const sharedSheet = startSheet();

function dress(root) {
  if (sharedSheet) {
    root.adoptedStyleSheets = [sharedSheet];
    return;
  }
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = sheetUrl;
  root.append(link);
}

const campaigns = new Map();

function campaignOf(id) {
  if (!campaigns.has(id)) {
    const tally = new Tally(id);
    campaigns.set(id, { tally, voter: new Voter(id, tally) });
  }
  return campaigns.get(id);
}

function span(className) {
  const element = document.createElement("span");
  element.className = className;
  return element;
}

function thumb() {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("width", "20");
  svg.setAttribute("aria-hidden", "true");
  path.setAttribute("d", "M3 10.5h3.5V20H3zM9.5 20v-9.4l3.2-6.4a1.9 1.9 0 0 1 3.5 1.3L15.4 9H19a2 2 0 0 1 2 2.4l-1.3 7a2 2 0 0 1-2 1.6z");
  svg.append(path);
  return svg;
}

/** The window's end as the campaign's own clock shows it, whatever zone the reader is in. */
function momentOf(iso, words) {
  const parts = /^\d+-(\d+)-(\d+)T(\d+:\d+).*?([+-]\d\d:\d\d|Z)$/.exec(iso || "");
  return parts && words.moment(Number(parts[1]), Number(parts[2]), parts[3], parts[4]);
}

/**
 * <dianzan-like campaign candidate publisher [label] [lang] [theme] [locked="not_open|closed"] [counts="given"]>
 *
 * With counts="given" the page calls `element.take(likes)` itself; otherwise the element reads the results.
 * Fires `dianzan-liked` {candidate, receipt, status} when the server says counted or already_liked.
 */
class DianzanLike extends HTMLElement {
  static get observedAttributes() {
    return ["campaign", "candidate", "label", "lang", "locked"];
  }

  constructor() {
    super();
    this.answeredMs = 0;
    this.render = this.render.bind(this);
    this.word = span("word");
    this.named = span("unseen");
    this.number = span("number");
    this.said = span("said");
    this.said.setAttribute("role", "status"); // there from the start: screen readers skip a region born with its text
    this.button = document.createElement("button");
    this.button.type = "button";
    this.button.setAttribute("part", "button");
    this.button.append(thumb(), this.word, this.named, this.number);
    this.button.addEventListener("click", () => this.tap());
    const root = this.attachShadow({ mode: "open" });
    dress(root);
    root.append(this.button, this.said);
  }

  connectedCallback() {
    this.join();
  }

  disconnectedCallback() {
    this.leave();
  }

  attributeChangedCallback(name, before, after) {
    if (before === after || !this.isConnected) return;
    if (name === "campaign") this.join();
    else this.render();
  }

  join() {
    this.leave();
    const { tally, voter } = campaignOf(this.getAttribute("campaign"));
    this.tally = tally;
    this.voter = voter;
    tally.onChange.add(this.render);
    if (this.getAttribute("counts") !== "given") tally.watch(this);
    voter.load();
    this.render();
  }

  leave() {
    if (!this.tally) return;
    this.tally.onChange.delete(this.render);
    this.tally.unwatch(this);
  }

  get candidate() {
    return this.getAttribute("candidate");
  }

  get words() {
    const spoken = this.closest("[lang]");
    return spoken && spoken.lang.toLowerCase().startsWith("en") ? languages.en : languages.zh;
  }

  get label() {
    return this.getAttribute("label") || this.tally.names.get(this.candidate) || "";
  }

  get locked() {
    return this.getAttribute("locked") || (this.voter.closed || this.tally.sealed ? "closed" : null);
  }

  get state() {
    if (this.voter.pending.has(this.candidate)) return "pending";
    if (this.voter.liked.has(this.candidate)) return "liked";
    return this.locked ? "locked" : "idle";
  }

  /** Takes the newest number of the results (null while they are hidden); tells the number that may be shown. */
  take(likes) {
    this.tally.take(this.candidate, likes);
    this.render();
    return this.tally.shown(this.candidate);
  }

  render() {
    const { state, words } = this;
    const likes = this.tally.shown(this.candidate);
    this.word.textContent = words[state === "locked" ? "idle" : state];
    this.named.textContent = this.label && ` ${this.label} `;
    this.number.textContent = likes === null ? "" : likes.toLocaleString("en-US");
    this.button.dataset.state = state;
    this.button.setAttribute("aria-pressed", String(state === "liked"));
    this.button.setAttribute("aria-busy", String(state === "pending"));
    // Not `disabled`: the focus stays, and a tap says why it does nothing.
    this.button.setAttribute("aria-disabled", String(state === "pending" || state === "locked"));
  }

  /** Screen readers hear every message; success is plain to see on the button, so there it is only heard. */
  say(text, { seen = true } = {}) {
    this.said.classList.toggle("unseen", !seen);
    this.said.textContent = text;
  }

  async tap() {
    const { state, words } = this;
    if (state === "pending" || Date.now() - this.answeredMs < doubleTapMsMax) return;
    if (state === "liked") this.say(words.already(momentOf(this.voter.resetsAt, words)));
    else if (state === "locked") this.say(words[this.locked]);
    else await this.like();
  }

  async like() {
    this.say("");
    const publisher = this.getAttribute("publisher") || location.hostname;
    try {
      this.answer(await this.voter.like(this.candidate, publisher, () => this.say(this.words.retrying)));
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal;
      this.refuse(refusal);
    }
  }

  answer({ status, receipt, mine }) {
    const { words } = this;
    this.answeredMs = Date.now();
    const when = momentOf(this.voter.resetsAt, words);
    if (mine) this.say(words.counted(this.label), { seen: false });
    else if (status === "already_liked") this.say(words.already(when));
    else if (status === "over_quota") this.say(words.over(when));
    else this.say(status === "unknown_candidate" ? words.unknown : words.refused);
    if (status !== "counted" && status !== "already_liked") return;
    const detail = { candidate: this.candidate, receipt, status };
    this.dispatchEvent(new CustomEvent("dianzan-liked", { detail, bubbles: true, composed: true }));
  }

  refuse({ code, status, unknown }) {
    const { words } = this;
    if (code === "closed" || code === "not_open") this.say(words[code]);
    else this.say(unknown || status === 401 ? words.failed : words.refused);
  }
}

if (!customElements.get("dianzan-like")) customElements.define("dianzan-like", DianzanLike);
