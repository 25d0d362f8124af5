// @ts-check
/** Owns the counts of one campaign as this page knows them, and for embeds the polling of the results. */
import { phaseOf } from "../shared/phase.js";
import { nowMs, readResults, Refusal } from "../shared/requests.js";
/** @import { Results } from "../shared/documents.d.ts" */

const limits = {
  pollMsEvery: 15000, // embeds are readers above all: 100 reads for one like
  pollMsMax: 120000, // the pause doubles up to this while the results do not answer
  timerMsMax: 2147483647, // setTimeout fires at once beyond 2^31 - 1
};

export class Tally {
  /** @param {string} campaign */
  constructor(campaign) {
    this.campaign = campaign;
    /** @type {Pick<Results, "state" | "opens" | "closes"> | null} */
    this.rules = null; // until the results are read; a page that gives the counts knows them itself
    this.missing = false; // there is no such campaign
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.turnTimer = undefined;
    /** @type {Map<string, string>} candidate -> name */
    this.names = new Map();
    /** @type {Map<string, number | null>} candidate -> likes in the results; null while they are hidden */
    this.server = new Map();
    /** @type {Map<string, number>} candidate -> the number that a counted like promises at least */
    this.own = new Map();
    /** @type {Set<() => void>} */
    this.onChange = new Set();
    /** @type {Set<Element>} */
    this.onScreen = new Set();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    this.fetching = false;
    this.nextPollMs = 0;
    this.pollGapMs = limits.pollMsEvery;
    /** @type {IntersectionObserver | null} */
    this.observer = null; // until there is something to watch
  }

  get phase() {
    return this.rules ? phaseOf(this.rules, nowMs()) : "open";
  }

  /**
   * The number to show. The results lag a counted like by a second or two, so such a like promises "what was shown when
   * it was sent, plus one", and the promise is dropped as soon as the results reach it. Because the number is from before
   * sending, a snapshot that holds the like already reaches it too: nothing is added twice, nothing jumps back.
   * @param {string} candidate
   */
  shown(candidate) {
    const likes = this.server.get(candidate);
    return typeof likes === "number" ? Math.max(likes, this.own.get(candidate) || 0) : null;
  }

  /**
   * @param {string} candidate
   * @param {number | null} shownBefore
   */
  promise(candidate, shownBefore) {
    if (shownBefore !== null && Number(this.server.get(candidate)) <= shownBefore) this.own.set(candidate, shownBefore + 1);
  }

  /**
   * @param {string} candidate
   * @param {number | null} likes
   */
  take(candidate, likes) {
    this.server.set(candidate, likes);
    if (Number(likes) >= (this.own.get(candidate) ?? Infinity)) this.own.delete(candidate);
  }

  changed() {
    this.onChange.forEach((render) => render());
  }

  /** @param {Element} element */
  watch(element) {
    this.observer ||= this.observing();
    this.observer.observe(element);
  }

  observing() {
    document.addEventListener("visibilitychange", () => this.poll());
    return new IntersectionObserver((entries) => this.seen(entries));
  }

  /** @param {Element} element */
  unwatch(element) {
    this.observer?.unobserve(element);
    this.onScreen.delete(element);
  }

  /** @param {IntersectionObserverEntry[]} entries */
  seen(entries) {
    for (const { isIntersecting, target } of entries) {
      if (isIntersecting) this.onScreen.add(target);
      else this.onScreen.delete(target);
    }
    this.poll();
  }

  /** One fetch for all watched buttons, and only while somebody can see one of them. */
  async poll() {
    clearTimeout(this.timer);
    if (this.fetching || this.phase === "sealed" || document.hidden || this.onScreen.size === 0) return;
    if (this.nextPollMs > Date.now()) {
      this.timer = setTimeout(() => this.poll(), this.nextPollMs - Date.now());
      return;
    }
    this.fetching = true;
    await this.fetchOnce();
    this.fetching = false;
    this.nextPollMs = Date.now() + this.pollGapMs * (1 + Math.random() / 4);
    this.poll();
  }

  async fetchOnce() {
    try {
      const results = await readResults(this.campaign);
      this.follow(results);
      for (const { code, name, likes } of results.results) {
        this.names.set(code, name);
        this.take(code, likes);
      }
      this.pollGapMs = limits.pollMsEvery;
      this.missing = false;
      this.changed();
    } catch (refusal) {
      if (refusal instanceof Refusal && refusal.status === 404) return this.miss();
      // The last numbers stay on the page, and liking does not need them.
      this.pollGapMs = Math.min(limits.pollMsMax, this.pollGapMs * 2);
      console.warn(`dianzan: results of ${this.campaign}:`, refusal);
    }
  }

  /**
   * Buttons lock and unlock in the second of the opening and the end, however long the page has been open.
   * @param {Pick<Results, "state" | "opens" | "closes">} rules
   */
  follow(rules) {
    this.rules = rules;
    clearTimeout(this.turnTimer);
    const waits = [rules.opens, rules.closes].map((moment) => Date.parse(moment) - nowMs()).filter((ms) => ms > 0);
    if (waits.length === 0 || waits[0] > limits.timerMsMax) return; // the next poll asks again
    this.turnTimer = setTimeout(() => { this.follow(rules); this.changed(); }, waits[0]);
  }

  /** It may be published later, as a tag may be placed before: asked again seldom. */
  miss() {
    this.pollGapMs = limits.pollMsMax;
    if (this.missing) return;
    this.missing = true;
    console.error(`dianzan-like: there is no campaign ${this.campaign}`);
    this.changed();
  }
}
