// @ts-check
/** Owns how the browser asks the two APIs: time limits, what may be asked again, and how long to wait before. */
/** @import { Results } from "./documents.d.ts" */

export const limits = {
  requestMsMax: 8000, // a phone on a bad network answers within this or not at all
  retriesMax: 4, // after them the voter is told, never left waiting
  retryMsFirst: 500, // doubles each time
  retryMsMax: 15000,
  askedMsMax: 90000, // of a Retry-After: a limit that is counted by the minute asks for 60 s
};

/** The results API's address, with a slash at its end. */
export const base = new URL("../../", import.meta.url).href;

/**
 * @param {string} root
 * @param {string} campaign
 */
export const campaignUrl = (root, campaign) => `${root}v1/campaigns/${encodeURIComponent(campaign)}`;

// Of the vote API: what was asked for may be done.
const unconfirmed = new Set(["store_unavailable", "unavailable", "unreadable"]);

/** Why a request gave no answer; `unknown` means that asking again is safe and may help. */
export class Refusal extends Error {
  /** @param {string} code */
  constructor(code, status = 0, waitMs = 0) {
    super(code);
    this.code = code;
    this.status = status;
    this.waitMs = waitMs;
    this.unknown = status === 0 || status === 429 || status >= 500;
    this.maybeDone = status === 0 || unconfirmed.has(code); // at this or an earlier try
  }
}

/** @param {string} text */
function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // a proxy's HTML page in place of an answer
  }
}

let clockSkewMs = 0;

/** The server's time: phones are wrong by minutes. It is known where the Date header may be read, so not in embeds. */
export const nowMs = () => Date.now() + clockSkewMs;

/** @param {Response} response */
async function answerOf(response) {
  clockSkewMs = Date.parse(response.headers.get("Date") || "") - Date.now() || clockSkewMs;
  const body = parsed(await response.text());
  if (response.ok && body) return body;
  const waitMs = 1000 * (parseFloat(response.headers.get("Retry-After") || "") || 0);
  throw new Refusal((body && body.code) || "unreadable", response.ok ? 0 : response.status, waitMs);
}

/**
 * Returns the JSON of a 2xx answer; everything else is thrown as a Refusal.
 * @param {string} url
 * @param {RequestInit} [init]
 */
export async function ask(url, init) {
  const abort = new AbortController();
  const timer = setTimeout(() => abort.abort(), limits.requestMsMax);
  try {
    return await answerOf(await fetch(url, { ...init, signal: abort.signal, credentials: "omit" }));
  } catch (error) {
    throw error instanceof Refusal ? error : new Refusal("unreachable");
  } finally {
    clearTimeout(timer);
  }
}

/**
 * How long to wait after this many tries more than the first; at least as long as the server has asked for, within bounds.
 * @param {number} attempt
 * @param {number} askedMs
 */
export function pauseMs(attempt, askedMs, random = Math.random()) {
  const ownMs = Math.min(limits.retryMsMax, limits.retryMsFirst * 2 ** attempt);
  const ms = Math.max(ownMs, Math.min(limits.askedMsMax, askedMs));
  return ms * (1 + random / 2); // the jitter only adds
}

/**
 * Asks again while that may help. Only for requests that may be repeated, which a like is: it is its identity.
 * @param {string} url
 * @param {RequestInit} [init]
 */
export async function askUntilAnswered(url, init, onRetry = () => {}) {
  for (let attempt = 0, maybeDone = false; ; attempt += 1) {
    try {
      return { body: await ask(url, init), retried: attempt > 0 };
    } catch (error) {
      const refusal = /** @type {Refusal} */ (error);
      maybeDone ||= refusal.maybeDone;
      refusal.maybeDone = maybeDone;
      if (!refusal.unknown || attempt === limits.retriesMax) throw refusal;
      onRetry();
      await new Promise((resume) => { setTimeout(resume, pauseMs(attempt, refusal.waitMs)); });
    }
  }
}

/** A cache may serve what is seconds old: a like would seem lost after a reload, and a closed campaign open. */
export const fresh = /** @type {const} */ ({ cache: "no-cache" });

/** @param {string} campaign */
export const resultsUrl = (campaign) => `${campaignUrl(base, campaign)}/results`;

/**
 * @param {string} campaign
 * @returns {Promise<Results>}
 */
export const readResults = (campaign) => ask(resultsUrl(campaign), fresh);

/**
 * A string body is sent as text/plain, which needs no CORS preflight.
 * @param {object} content
 */
export const post = (content) => ({ method: "POST", body: JSON.stringify(content) });
