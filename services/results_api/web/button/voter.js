// @ts-check
/** Owns one person of one campaign on this device: their token, what they have liked, and the sending of a like. */
import { ask, askUntilAnswered, base, campaignUrl, nowMs, pauseMs, post, Refusal } from "../shared/requests.js";
/** @import { LikeAnswer, MyLikes, VoterAnswer } from "../shared/documents.d.ts" */
/** @import { Tally } from "./tally.js" */

/** @typedef {{ status: LikeAnswer["results"][0]["status"], receipt?: string | null, mine: boolean }} Answer */
/** @typedef {Pick<MyLikes, "likes"> & Voted} VoterNews what the event `dianzan-voter` tells */
/** @typedef {{ campaign: string, remaining: number | null, resets_at: string | null, closed: boolean, unread: boolean }} Voted */

const ownPage = "page"; // what the campaign's own page calls itself
const lockMsMax = 10000;
const storedMsMax = 500;
const timerMsMax = 2147483647; // setTimeout fires at once beyond 2^31 - 1

/**
 * The vote API's address, with a slash at its end; a port alone is one of the results API's own host.
 * @param {string} url as it is configured
 * @param {string} resultsUrl
 */
export function voteRootOf(url, resultsUrl) {
  const { protocol, hostname } = new URL(resultsUrl);
  const root = /^:\d+$/.test(url) ? `${protocol}//${hostname}${url}` : url || resultsUrl;
  return root.replace(/\/*$/, "/");
}

/** @type {Promise<string> | null} */
let configuration = null;

async function readVoteRoot() {
  const { body } = await askUntilAnswered(`${base}web/config.json`);
  return voteRootOf(body.vote_url, base);
}

function voteRoot() {
  configuration ||= readVoteRoot().catch((refusal) => {
    configuration = null; // the next tap asks again
    throw refusal;
  });
  return configuration;
}

/**
 * One tab of this site at a time. Browsers without locks (and http, which has none) do it at once: there the token that
 * is stored first wins. A tab that holds the lock for longer than a mint may take is not waited for.
 * @template Result
 * @param {string} name
 * @param {() => Promise<Result>} work
 * @returns {Promise<Result>}
 */
function alone(name, work) {
  if (!navigator.locks) return work();
  return new Promise((resolve, reject) => {
    const waiting = new AbortController(); // AbortSignal.timeout is four years younger than locks
    const timer = setTimeout(() => waiting.abort(), lockMsMax);
    let begun = false;
    const begin = async () => {
      begun = true;
      clearTimeout(timer);
      await work().then(resolve, reject);
      // What was stored reaches other tabs, which are other processes, some while later.
      await new Promise((release) => { setTimeout(release, storedMsMax); });
    };
    navigator.locks.request(name, { signal: waiting.signal }, begin).catch(() => {
      if (!begun) work().then(resolve, reject); // not waited for any longer, or a sandbox that may not lock
    });
  });
}

/** localStorage of the embedding site: no third-party cookie is involved. Where it is blocked, memory does for the visit. */
const storage = {
  /** @type {Map<string, string>} */
  memory: new Map(),
  /** @type {Set<string>} */
  unwritten: new Set(), // what is stored under these is older than what is remembered
  /** @param {string} key */
  read(key) {
    if (this.unwritten.has(key)) return this.memory.get(key) || null;
    try {
      return localStorage.getItem(key) || this.memory.get(key) || null;
    } catch {
      return this.memory.get(key) || null;
    }
  },
  /**
   * @param {string} key
   * @param {string} value
   */
  write(key, value) {
    this.memory.set(key, value);
    try {
      localStorage.setItem(key, value);
      this.unwritten.delete(key);
    } catch {
      this.unwritten.add(key); // blocked or full: the token lives as long as the page
    }
  },
  /** @param {string} key */
  remove(key) {
    this.memory.delete(key);
    try {
      localStorage.removeItem(key);
    } catch {
      // blocked: it was never written there
    }
  },
};

/**
 * Null where there is none, or where it is blocked as storage is.
 * @param {string} name
 */
function channel(name) {
  try {
    return new BroadcastChannel(name);
  } catch {
    return null;
  }
}

/**
 * After a pause, or at once when the network is back.
 * @param {number} ms
 */
const nextTry = (ms) => new Promise((resume) => {
  addEventListener("online", resume, { once: true });
  setTimeout(() => { removeEventListener("online", resume); resume(undefined); }, ms);
});

export class Voter {
  /**
   * @param {string} campaign
   * @param {Tally} tally
   */
  constructor(campaign, tally) {
    this.campaign = campaign;
    this.tally = tally;
    this.key = `dianzan:${base}:${campaign}`;
    /** @type {Map<string, string>} candidate -> receipt, in this window */
    this.liked = new Map();
    /** @type {Map<string, Promise<Answer>>} candidate -> the answer under way */
    this.pending = new Map();
    /** @type {number | null} */
    this.remaining = null;
    /** @type {string | null} */
    this.resetsAt = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.resetTimer = undefined;
    this.closed = false; // the server has said so, which is final
    /** @type {Promise<string> | null} */
    this.minting = null;
    /** @type {Promise<void> | null} */
    this.reading = null;
    this.unread = false; // earlier likes are asked for, and not known yet
    this.tabs = this.joinTabs();
  }

  /** The other tabs of this site: one knows what another did. */
  joinTabs() {
    const tabs = channel(this.key);
    tabs?.addEventListener("message", ({ data }) => {
      this.liked.set(data.candidate, data.receipt);
      this.allow(data);
      this.changed();
    });
    return tabs;
  }

  /** @param {string} path */
  async url(path) {
    return `${campaignUrl(await voteRoot(), this.campaign)}/${path}`;
  }

  changed() {
    this.tally.changed();
    const likes = Array.from(this.liked, ([candidate, receipt]) => ({ candidate, receipt }));
    /** @type {VoterNews} */
    const detail = {
      campaign: this.campaign,
      likes,
      remaining: this.remaining,
      resets_at: this.resetsAt,
      closed: this.closed,
      unread: this.unread,
    };
    document.dispatchEvent(new CustomEvent("dianzan-voter", { detail }));
  }

  /** Reads what was liked earlier: once a page, and only when this device has a token at all. */
  load() {
    if (storage.read(this.key)) this.reading ||= this.readMine();
  }

  /** Reads it again, after a like without an answer; done when it is known. */
  async settle() {
    await this.reading;
    const known = new Set(this.liked.keys());
    this.remaining = null; // so that it is taken: nothing is on its way
    this.reading = this.readMine();
    await this.reading;
    for (const [candidate, receipt] of this.liked) if (!known.has(candidate)) this.tellTabs(candidate, receipt);
  }

  /**
   * @param {string} candidate
   * @param {string} receipt
   */
  tellTabs(candidate, receipt) {
    this.tabs?.postMessage({ candidate, receipt, remaining: this.remaining, resets_at: this.resetsAt });
  }

  /** Asks until it is answered, however long the vote API is away. */
  async readMine() {
    for (let attempt = 0, known = false; !known; attempt += 1) {
      const token = storage.read(this.key);
      known = !token || await this.readOnce(token, attempt);
    }
    this.unread = false;
    this.changed();
  }

  /**
   * Whether there is nothing more to ask; otherwise after a pause.
   * @param {string} token
   * @param {number} attempt
   */
  async readOnce(token, attempt) {
    try {
      this.takeMine(await ask(await this.url("likes/mine"), { headers: { Authorization: `Bearer ${token}` } }));
      return true;
    } catch (error) {
      console.warn(`dianzan: earlier likes in ${this.campaign}:`, error);
      if (!(error instanceof Refusal)) return true;
      if (error.status === 401) return !await this.renewed(token, error).catch((refusal) => refusal.unknown);
      if (!error.unknown) return true; // a tap still tells: the server answers already_liked with the first receipt
      this.unread = true;
      this.changed();
      await nextTry(pauseMs(attempt, error.waitMs));
      return false;
    }
  }

  /** @param {MyLikes} body */
  takeMine(body) {
    body.likes.forEach((like) => this.liked.set(like.candidate, like.receipt));
    // A like answered meanwhile knows the allowance better.
    if (this.remaining === null) this.allow(body);
  }

  /** @param {Pick<MyLikes, "remaining" | "resets_at">} answer */
  allow({ remaining, resets_at: resetsAt }) {
    this.remaining = remaining;
    this.resetsAt = resetsAt;
    clearTimeout(this.resetTimer);
    const ms = Date.parse(resetsAt || "") - nowMs(); // not a number in the last window
    // A new window starts empty. The server is not asked, or every open page would ask it at midnight.
    if (ms > 0 && ms < timerMsMax) this.resetTimer = setTimeout(() => this.startWindow(), ms);
  }

  startWindow() {
    this.liked.clear();
    this.remaining = null;
    this.resetsAt = null;
    this.changed();
  }

  /**
   * Whether there is another token of the same voter. One that the server does not know any more is forgotten.
   * @param {string} token
   * @param {Refusal} refusal of what was asked with it
   */
  async renewed(token, refusal, onRetry = () => {}) {
    try {
      if (refusal.code !== "token_expired") throw refusal;
      const { body } = await askUntilAnswered(await this.url("voters"), post({ token }), onRetry);
      if (storage.read(this.key) === token) storage.write(this.key, /** @type {VoterAnswer} */ (body).token);
      return true;
    } catch (error) {
      if (!(error instanceof Refusal) || error.status !== 401) throw error;
      this.forget(token);
      return false;
    }
  }

  /** @param {string} token */
  forget(token) {
    if (storage.read(this.key) === token) storage.remove(this.key);
  }

  /**
   * One mint for all buttons of the page and all tabs of the site: they stay one voter.
   * @param {string} publisher
   * @param {() => void} onRetry
   */
  async token(publisher, onRetry) {
    const known = storage.read(this.key);
    if (known) return known;
    const mint = async () => storage.read(this.key) || this.mint(publisher, onRetry);
    this.minting ||= alone(this.key, mint).finally(() => { this.minting = null; });
    return this.minting;
  }

  /**
   * @param {string} publisher
   * @param {() => void} onRetry
   */
  async mint(publisher, onRetry) {
    const { body } = await askUntilAnswered(await this.url("voters"), post({ publisher }), onRetry);
    const { token, publisher: knownAs } = /** @type {VoterAnswer} */ (body);
    if (!knownAs && publisher !== ownPage && publisher !== location.hostname) {
      console.error(`dianzan-like: "${publisher}" is no publisher of ${this.campaign}; likes count as the campaign's own`);
    }
    const known = storage.read(this.key);
    if (!known) storage.write(this.key, token);
    return known || token;
  }

  /**
   * However many taps and buttons, one request a candidate is under way.
   * @param {string} candidate
   * @param {string} publisher
   * @param {() => void} onRetry
   */
  like(candidate, publisher, onRetry) {
    let answer = this.pending.get(candidate);
    if (!answer) {
      answer = this.cast(candidate, publisher, onRetry).catch((refusal) => {
        if (refusal.code === "closed") this.closed = true;
        throw refusal;
      }).finally(() => {
        this.pending.delete(candidate);
        this.changed();
      });
      this.pending.set(candidate, answer);
      this.changed();
    }
    return answer;
  }

  /**
   * @param {string} candidate
   * @param {string} publisher
   * @param {() => void} onRetry
   */
  async cast(candidate, publisher, onRetry) {
    for (let renewed = false; ; renewed = true) {
      const token = await this.token(publisher, onRetry);
      try {
        return await this.send(candidate, token, onRetry);
      } catch (refusal) {
        if (renewed || !(refusal instanceof Refusal) || refusal.status !== 401) throw refusal;
        await this.renewed(token, refusal, onRetry);
      }
    }
  }

  /**
   * @param {string} candidate
   * @param {string} token
   * @param {() => void} onRetry
   * @returns {Promise<Answer>}
   */
  async send(candidate, token, onRetry) {
    const shownBefore = this.tally.shown(candidate);
    const request = post({ candidates: [candidate], token });
    const { body, retried } = await askUntilAnswered(await this.url("likes"), request, onRetry);
    const answer = /** @type {LikeAnswer} */ (body);
    const { status, receipt } = answer.results[0];
    if (status === "counted") this.tally.promise(candidate, shownBefore);
    if (status === "counted" || status === "already_liked") {
      this.liked.set(candidate, String(receipt));
    }
    this.allow(answer);
    if (this.liked.has(candidate)) this.tellTabs(candidate, String(this.liked.get(candidate)));
    // The answer to the first try can get lost; then the retry's already_liked is this very like.
    return { status, receipt, mine: status === "counted" || (retried && status === "already_liked") };
  }
}
