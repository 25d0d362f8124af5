// @ts-check
/** Owns <dianzan-like>: what the button looks like, says and announces. */
import { base, Refusal } from "../shared/requests.js";
import { answerSaid, refusalSaid, spoken } from "./sayings.js";
import { Tally } from "./tally.js";
import { Voter } from "./voter.js";
/** @import { Answer } from "./voter.js" */

const waitMsMax = 2000; // without a word while a like is on its way
const doubleTapMsMax = 1000; // a second tap this soon after the answer belongs to the first

// Until the sheet is there the button keeps its place, unseen: no flash of a bare one.
const placeholder = ":host { display: inline-block; min-height: 44px } button { visibility: hidden }";
const sheetUrl = `${base}web/button/like-button.css`;

/** @param {CSSStyleSheet} sheet */
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

/** @type {CSSStyleSheet | null | undefined} */
let sharedSheet; // asked for by the first button

/** @param {ShadowRoot} root */
function dress(root) {
  if (sharedSheet === undefined) sharedSheet = startSheet();
  if (sharedSheet) {
    root.adoptedStyleSheets = [sharedSheet];
    return;
  }
  const link = document.createElement("link");
  link.rel = "stylesheet";
  link.href = sheetUrl;
  root.append(link);
}

/** @type {Map<string, Voter>} */
const voters = new Map();

/** @param {string} campaign */
function voterOf(campaign) {
  let voter = voters.get(campaign);
  if (!voter) {
    voter = new Voter(campaign, new Tally(campaign));
    voters.set(campaign, voter);
  }
  return voter;
}

/** @param {string} className */
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

/**
 * <dianzan-like campaign candidate publisher [label] [lang] [theme] [locked="not_open|closed"] [counts="given"]>
 *
 * With counts="given" the page calls `element.take(likes)` itself; otherwise the element reads the results.
 * Fires `dianzan-liked` {candidate, receipt, status} when the server says counted or already_liked.
 */
export class DianzanLike extends HTMLElement {
  static get observedAttributes() {
    return ["campaign", "candidate", "label", "lang", "locked"];
  }

  constructor() {
    super();
    this.answeredMs = 0;
    /** @type {Voter | null} */
    this.joined = null; // while the element is in a document and names whom it is for
    this.placed = false; // whether it is in one, all attributes of its tag read
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
    // A person's own: a page's script may click too, and would like for whoever reads it.
    this.button.addEventListener("click", (event) => { if (event.isTrusted) this.#tap(); });
    const root = this.attachShadow({ mode: "open" });
    dress(root);
    root.append(this.button, this.said);
  }

  connectedCallback() {
    this.placed = true;
    this.join();
  }

  disconnectedCallback() {
    this.placed = false;
    this.leave();
  }

  /**
   * @param {string} name
   * @param {string | null} before
   * @param {string | null} after
   */
  attributeChangedCallback(name, before, after) {
    // An element that stood there before the script is in the document already, and its attributes come one by one.
    if (before === after || !this.placed) return;
    if (name === "candidate") this.say("");
    if (name === "campaign" || !this.joined || !this.getAttribute("candidate")) this.join();
    else this.render();
  }

  join() {
    this.leave();
    for (const name of ["campaign", "candidate"]) {
      if (!this.getAttribute(name)) console.error(`dianzan-like: the attribute ${name} is missing`, this);
    }
    if (!this.getAttribute("campaign") || !this.getAttribute("candidate")) return this.lock();
    this.joined = this.voter;
    this.tally.onChange.add(this.render);
    if (this.getAttribute("counts") !== "given") this.tally.watch(this);
    this.voter.load();
    this.render();
  }

  /** A button of no campaign or no candidate at all: it is there, and says so. */
  lock() {
    this.word.textContent = this.words.idle;
    this.named.textContent = "";
    this.number.textContent = "";
    this.button.dataset.state = "locked";
    this.button.setAttribute("aria-disabled", "true");
  }

  leave() {
    if (!this.joined) return;
    this.joined.tally.onChange.delete(this.render);
    this.joined.tally.unwatch(this);
    this.joined = null;
  }

  get voter() {
    return voterOf(String(this.getAttribute("campaign")).toLowerCase());
  }

  get tally() {
    return this.voter.tally;
  }

  /** Codes are written small; people type them as they like. */
  get candidate() {
    return String(this.getAttribute("candidate")).toLowerCase();
  }

  get words() {
    const language = this.closest("[lang]")?.getAttribute("lang") || "";
    return language.toLowerCase().startsWith("en") ? spoken.en : spoken.zh;
  }

  get label() {
    return this.getAttribute("label") || this.tally.names.get(this.candidate) || "";
  }

  get locked() {
    if (this.tally.missing) return "no_campaign";
    const phase = this.voter.closed ? "closed" : this.getAttribute("locked") || this.tally.phase;
    if (phase === "open") return null;
    return phase === "not_open" ? phase : "closed";
  }

  get state() {
    if (this.voter.pending.has(this.candidate)) return "pending";
    if (this.voter.liked.has(this.candidate)) return "liked";
    if (this.locked) return "locked";
    return this.voter.unread ? "reading" : "idle";
  }

  /**
   * Takes the newest number of the results (null while they are hidden); tells the number that may be shown.
   * @param {number | null} likes
   */
  take(likes) {
    this.tally.take(this.candidate, likes);
    this.render();
    return this.tally.shown(this.candidate);
  }

  render() {
    const { state, words } = this;
    const likes = this.tally.shown(this.candidate);
    if (this.button.dataset.state === "locked" && state !== "locked") this.say(""); // why it was locked
    this.word.textContent = words[state === "locked" ? "idle" : state];
    this.named.textContent = this.label && ` ${this.label} `;
    this.number.textContent = likes === null ? "" : likes.toLocaleString("en-US");
    this.button.dataset.state = state;
    this.button.setAttribute("aria-pressed", String(state === "liked"));
    this.button.setAttribute("aria-busy", String(state === "pending"));
    // Not `disabled`: the focus stays, and a tap says why it does nothing.
    this.button.setAttribute("aria-disabled", String(state === "pending" || state === "locked"));
  }

  /**
   * Screen readers hear every message; success is plain to see on the button, so there it is only heard.
   * @param {string} text
   */
  say(text, { seen = true } = {}) {
    this.said.classList.toggle("unseen", !seen);
    this.said.textContent = text;
  }

  async #tap() {
    const { state, words } = this;
    if (!this.joined) return this.say(this.getAttribute("campaign") ? words.unknown : words.no_campaign);
    if (state === "pending" || Date.now() - this.answeredMs < doubleTapMsMax) return;
    if (state === "liked") this.tell({ status: "already_liked", mine: false });
    else if (state === "locked") this.say(words[this.locked || "closed"]);
    else await this.#like();
  }

  async #like() {
    const { candidate } = this; // a router may change it before the answer is there
    /** @param {string} text */
    const say = (text) => { if (this.candidate === candidate) this.say(text); };
    say("");
    const publisher = this.getAttribute("publisher") || location.hostname;
    const waited = setTimeout(() => say(this.words.waiting), waitMsMax);
    try {
      this.answer(await this.voter.like(candidate, publisher, () => say(this.words.retrying)), candidate);
    } catch (refusal) {
      if (!(refusal instanceof Refusal)) throw refusal;
      say(refusalSaid(refusal, this.words));
      if (refusal.maybeDone) this.settle(candidate, refusal);
    } finally {
      clearTimeout(waited);
    }
  }

  /**
   * The like may be recorded: what the server says of it is told as soon as it answers.
   * @param {string} candidate
   * @param {Refusal} refusal
   */
  async settle(candidate, refusal) {
    await this.voter.settle();
    if (this.candidate !== candidate || this.state === "pending") return; // the voter has gone on meanwhile
    const receipt = this.voter.liked.get(candidate);
    if (receipt) this.answer({ status: "already_liked", receipt, mine: true }, candidate);
    else this.say(refusalSaid({ ...refusal, maybeDone: false }, this.words));
  }

  /**
   * @param {Answer} answer
   * @param {string} candidate whom it is about; the button may be another's by now
   */
  answer({ status, receipt, mine }, candidate) {
    if (this.candidate === candidate) {
      this.answeredMs = Date.now();
      this.tell({ status, mine });
    }
    if (status !== "counted" && status !== "already_liked") return;
    const detail = { candidate, receipt, status };
    this.dispatchEvent(new CustomEvent("dianzan-liked", { detail, bubbles: true, composed: true }));
  }

  /** @param {Answer} answer */
  tell(answer) {
    this.say(answerSaid(answer, this.label, this.voter.resetsAt, this.words), { seen: !answer.mine });
  }
}

/** A second script tag on one page changes nothing. */
export function define() {
  if (!customElements.get("dianzan-like")) customElements.define("dianzan-like", DianzanLike);
}
