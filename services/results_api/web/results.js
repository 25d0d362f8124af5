/** Owns reading the results API for the page: once at the start, then live by event stream, or by polling without it. */
import { ask, askUntilAnswered, base, campaignUrl, fresh, readResults, Refusal } from "./requests.js";

const limits = {
  tickMsEvery: 5000, // the polling interval while the stream is down
  silenceMsMax: 20000, // some proxies hold an open stream back: after this an open one is not believed either
  reopenMsAfter: 30000, // a stream the server refused is asked for again
};

const withCode = (refusal, code) => (refusal.status === 404 ? new Refusal(code, 404) : refusal);

export async function readCampaigns() {
  const { body } = await askUntilAnswered(`${base}v1/campaigns`, fresh);
  return body.campaigns;
}

export async function readCampaign(campaign) {
  const { body } = await askUntilAnswered(campaignUrl(base, campaign), fresh).catch((refusal) => {
    throw withCode(refusal, "no_campaign");
  });
  return body;
}

export async function readFirstResults(campaign) {
  const { body } = await readResults(campaign, askUntilAnswered);
  return body;
}

export const readCandidate = (campaign, code) =>
  ask(`${campaignUrl(base, campaign)}/candidates/${encodeURIComponent(code)}`);

/** The shape of the stream's events, made of a whole results answer. */
export function newsOf(results) {
  const counts = {};
  for (const row of results.results) counts[row.code] = [row.rank, row.likes, row.people];
  return { ...results, counts };
}

/** Calls onNews({likes, people, as_of, sealed, counts}) whenever there is some, and onSilence() while there is none. */
export class LiveResults {
  constructor(campaign, onNews, onSilence) {
    this.campaign = campaign;
    this.onNews = onNews;
    this.onSilence = onSilence;
    this.stream = null;
    this.streaming = false;
    this.openedMs = 0;
    this.newsMs = Date.now();
    this.asking = false;
    this.timer = 0;
  }

  start() {
    this.open();
    this.timer = setInterval(() => this.tick(), limits.tickMsEvery);
    document.addEventListener("visibilitychange", () => this.follow());
  }

  /** A page nobody looks at holds no stream: readers outnumber voters by far. */
  follow() {
    if (document.hidden) this.close();
    else if (this.timer && !this.stream) this.open();
  }

  open() {
    this.openedMs = Date.now();
    this.stream = new EventSource(`${campaignUrl(base, this.campaign)}/results/stream`);
    this.stream.addEventListener("results", (event) => {
      this.streaming = true;
      this.take(JSON.parse(event.data));
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
      this.take(newsOf(await readResults(this.campaign)));
    } catch (refusal) {
      console.warn("dianzan: results:", refusal);
      this.onSilence();
    } finally {
      this.asking = false;
    }
  }

  take(news) {
    this.newsMs = Date.now();
    this.onNews(news);
    if (news.sealed) this.stop();
  }

  /** Sealed results do not change any more. */
  stop() {
    clearInterval(this.timer);
    this.timer = 0;
    this.close();
  }
}
