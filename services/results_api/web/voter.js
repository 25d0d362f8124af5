/** Owns one person of one campaign on this device: their token, what they have liked, and the sending of a like. */
import { ask, askUntilAnswered, base, campaignUrl, nowMs, post } from "./requests.js";

const timerMsMax = 2147483647; // setTimeout fires at once beyond 2^31 - 1

let configuration = null;

async function readVoteRoot() {
  const { body } = await askUntilAnswered(`${base}web/config.json`);
  const { protocol, hostname } = new URL(base);
  const root = /^:\d+$/.test(body.vote_url) ? `${protocol}//${hostname}${body.vote_url}` : body.vote_url || base;
  return root.replace(/\/*$/, "/");
}

function voteRoot() {
  configuration ||= readVoteRoot().catch((refusal) => {
    configuration = null; // the next tap asks again
    throw refusal;
  });
  return configuration;
}

/** localStorage of the embedding site: no third-party cookie is involved. Where it is blocked, memory does for the visit. */
const storage = {
  memory: new Map(),
  read(key) {
    try {
      return localStorage.getItem(key) || this.memory.get(key) || null;
    } catch {
      return this.memory.get(key) || null;
    }
  },
  write(key, value) {
    this.memory.set(key, value);
    try {
      localStorage.setItem(key, value);
    } catch {
      // blocked or full: the token lives as long as the page
    }
  },
  remove(key) {
    this.memory.delete(key);
    try {
      localStorage.removeItem(key);
    } catch {
      // blocked: it was never written there
    }
  },
};

export class Voter {
  constructor(campaign, tally) {
    this.campaign = campaign;
    this.tally = tally;
    this.key = `dianzan:${base}:${campaign}`;
    this.liked = new Map(); // candidate -> receipt, in this window
    this.pending = new Map(); // candidate -> the answer under way
    this.remaining = null;
    this.resetsAt = null;
    this.resetTimer = 0;
    this.closed = false; // the server has said so, which is final
    this.minting = null;
    this.reading = null;
  }

  async url(path) {
    return `${campaignUrl(await voteRoot(), this.campaign)}/${path}`;
  }

  changed() {
    this.tally.changed();
    const likes = Array.from(this.liked, ([candidate, receipt]) => ({ candidate, receipt }));
    const detail = { campaign: this.campaign, likes, remaining: this.remaining, resets_at: this.resetsAt, closed: this.closed };
    document.dispatchEvent(new CustomEvent("dianzan-voter", { detail }));
  }

  /** Reads what was liked earlier: once a page, and only when this device has a token at all. */
  load() {
    const token = storage.read(this.key);
    if (token) this.reading ||= this.readMine(token);
  }

  async readMine(token) {
    try {
      const body = await ask(await this.url("likes/mine"), { headers: { Authorization: `Bearer ${token}` } });
      body.likes.forEach((like) => this.liked.set(like.candidate, like.receipt));
      // A like answered meanwhile knows the allowance better.
      if (this.remaining === null) this.allow(body);
      this.changed();
    } catch (refusal) {
      if (refusal.status === 401) this.forget(token);
      // Otherwise a tap still tells: the server answers already_liked with the first receipt.
      console.warn(`dianzan: earlier likes in ${this.campaign}:`, refusal);
    }
  }

  allow({ remaining, resets_at: resetsAt }) {
    this.remaining = remaining;
    this.resetsAt = resetsAt;
    clearTimeout(this.resetTimer);
    const ms = Date.parse(resetsAt) - nowMs();
    // A new window starts empty. The server is not asked, or every open page would ask it at midnight.
    if (ms > 0 && ms < timerMsMax) this.resetTimer = setTimeout(() => this.startWindow(), ms);
  }

  startWindow() {
    this.liked.clear();
    this.remaining = null;
    this.resetsAt = null;
    this.changed();
  }

  forget(token) {
    if (storage.read(this.key) === token) storage.remove(this.key);
  }

  /** One mint for all buttons of the page; a token that another tab stored meanwhile wins: both stay one voter. */
  async token(publisher, onRetry) {
    const known = storage.read(this.key);
    if (known) return known;
    this.minting ||= this.mint(publisher, onRetry).finally(() => { this.minting = null; });
    return this.minting;
  }

  async mint(publisher, onRetry) {
    const { body } = await askUntilAnswered(await this.url("voters"), post({ publisher }), onRetry);
    if (!storage.read(this.key)) storage.write(this.key, body.token);
    return storage.read(this.key);
  }

  /** However many taps and buttons, one request a candidate is under way. */
  like(candidate, publisher, onRetry) {
    if (!this.pending.has(candidate)) {
      const answer = this.cast(candidate, publisher, onRetry).catch((refusal) => {
        if (refusal.code === "closed") this.closed = true;
        throw refusal;
      }).finally(() => {
        this.pending.delete(candidate);
        this.changed();
      });
      this.pending.set(candidate, answer);
      this.changed();
    }
    return this.pending.get(candidate);
  }

  async cast(candidate, publisher, onRetry) {
    for (let renewed = false; ; renewed = true) {
      const token = await this.token(publisher, onRetry);
      try {
        return await this.send(candidate, token, onRetry);
      } catch (refusal) {
        if (renewed || refusal.status !== 401) throw refusal;
        this.forget(token);
      }
    }
  }

  async send(candidate, token, onRetry) {
    const shownBefore = this.tally.shown(candidate);
    const request = post({ candidates: [candidate], token });
    const { body, retried } = await askUntilAnswered(await this.url("likes"), request, onRetry);
    const { status, receipt } = body.results[0];
    if (status === "counted") this.tally.promise(candidate, shownBefore);
    if (status === "counted" || status === "already_liked") this.liked.set(candidate, receipt);
    this.allow(body);
    // The answer to the first try can get lost; then the retry's already_liked is this very like.
    return { status, receipt, mine: status === "counted" || (retried && status === "already_liked") };
  }
}
