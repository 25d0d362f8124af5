// @ts-check
/** Owns reading the results API for the page: once at the start, then live by event stream, or by polling without it. */
import { ask, askUntilAnswered, base, campaignUrl, fresh, readResults, Refusal, resultsUrl } from "../shared/requests.js";
/** @import { CampaignList, CampaignSummary, CandidateResult, ResultRow, Results } from "../shared/documents.d.ts" */

/** @typedef {Pick<ResultRow, "rank" | "likes" | "people">} Count */
/** @typedef {Pick<Results, "likes" | "people" | "people_estimated" | "sealed" | "version" | "as_of">} Totals */
/** @typedef {Totals & { counts: Record<string, Count> }} News the totals, and the count of each candidate by its code */
/** @typedef {[rank: number | null, likes: number | null, people: number | null]} Row */

const limits = {
  tickMsEvery: 5000, // the polling interval while the stream is down
  silenceMsMax: 20000, // some proxies hold an open stream back: after this an open one is not believed either
  reopenMsAfter: 30000, // a stream the server refused is asked for again
};

/** @returns {Promise<CampaignSummary[]>} */
export async function readCampaigns() {
  const { body } = await askUntilAnswered(`${base}v1/campaigns`, fresh);
  return /** @type {CampaignList} */ (body).campaigns;
}

/**
 * @param {string} campaign
 * @returns {Promise<CampaignSummary>}
 */
export async function readCampaign(campaign) {
  const { body } = await askUntilAnswered(campaignUrl(base, campaign), fresh).catch((refusal) => {
    throw refusal.status === 404 ? new Refusal("no_campaign", 404) : refusal;
  });
  return body;
}

/**
 * @param {string} campaign
 * @returns {Promise<Results>}
 */
export async function readFirstResults(campaign) {
  const { body } = await askUntilAnswered(resultsUrl(campaign), fresh);
  return body;
}

/**
 * @param {string} campaign
 * @param {string} code
 * @returns {Promise<CandidateResult>}
 */
export const readCandidate = (campaign, code) =>
  ask(`${campaignUrl(base, campaign)}/candidates/${encodeURIComponent(code)}`);

/**
 * News as the event stream tells it. The API names no columns there, to be short; this is the one place that does.
 * @param {Totals & { counts: Record<string, Row> }} event
 * @returns {News}
 */
export function newsOfEvent({ counts, ...totals }) {
  const rows = Object.entries(counts).map(([code, [rank, likes, people]]) => [code, { rank, likes, people }]);
  return { ...totals, counts: Object.fromEntries(rows) };
}

/**
 * The same, made of a whole results answer.
 * @param {Results} answer
 * @returns {News}
 */
export function newsOfResults({ results, ...totals }) {
  return { ...totals, counts: Object.fromEntries(results.map((row) => [row.code, row])) };
}

/** Calls onNews whenever there is some, and onSilence while there is none. */
export class LiveResults {
  /**
   * @param {string} campaign
   * @param {(news: News) => void} onNews
   * @param {() => void} onSilence
   */
  constructor(campaign, onNews, onSilence) {
    this.campaign = campaign;
    this.onNews = onNews;
    this.onSilence = onSilence;
    /** @type {EventSource | null} */
    this.stream = null;
    this.streaming = false;
    this.openedMs = 0;
    this.newsMs = Date.now();
    this.asking = false;
    /** @type {ReturnType<typeof setInterval> | undefined} */
    this.timer = undefined;
    this.stopped = false;
  }

  start() {
    this.follow();
    this.timer = setInterval(() => this.tick(), limits.tickMsEvery);
    document.addEventListener("visibilitychange", () => this.follow());
  }

  /** A page nobody looks at holds no stream: readers outnumber voters by far. */
  follow() {
    if (document.hidden) this.close();
    else if (!this.stopped && !this.stream) this.open();
  }

  open() {
    this.openedMs = Date.now();
    this.stream = new EventSource(`${resultsUrl(this.campaign)}/stream`);
    this.stream.addEventListener("results", (event) => {
      this.streaming = true;
      this.take(newsOfEvent(JSON.parse(event.data)));
    });
    this.stream.addEventListener("error", () => { this.streaming = false; });
  }

  close() {
    if (this.stream) this.stream.close();
    this.stream = null;
    this.streaming = false;
  }

  tick() {
    if (document.hidden) return;
    const silentMs = Date.now() - this.newsMs;
    if (!this.streaming || silentMs > limits.silenceMsMax) this.poll();
    const refused = !this.stream || this.stream.readyState === EventSource.CLOSED;
    if (refused && Date.now() - this.openedMs > limits.reopenMsAfter) this.open();
  }

  async poll() {
    if (this.asking) return;
    this.asking = true;
    try {
      this.take(newsOfResults(await readResults(this.campaign)));
    } catch (refusal) {
      console.warn("dianzan: results:", refusal);
      this.onSilence();
    } finally {
      this.asking = false;
    }
  }

  /** @param {News} news */
  take(news) {
    this.newsMs = Date.now();
    this.onNews(news);
    if (news.sealed) this.stop();
  }

  /** Sealed results do not change any more. */
  stop() {
    clearInterval(this.timer);
    this.stopped = true;
    this.close();
  }
}
