// @ts-check
/** Owns what follows from a campaign's rules alone: which is shown first, its addresses, the tags that embed it. */
import { phaseOf } from "../shared/phase.js";
/** @import { CampaignSummary } from "../shared/documents.d.ts" */

/**
 * What a campaign tells of itself in its foot, in the order of reading; what it leaves out is left out.
 * @param {CampaignSummary} campaign
 */
export function aboutOf(campaign) {
  const { introduction, how_to_like, organiser, contact, icp_number, privacy } = campaign;
  const told = { introduction, how_to_like, organiser, contact, privacyNotice: privacy, icp_number };
  return /** @type {[keyof typeof told, string][]} */ (Object.entries(told)).filter(([, text]) => text);
}

/**
 * The campaign that a page's address names, or null.
 * @param {string} path
 */
export function campaignIn(path) {
  const parts = /^\/c\/([^/]+)\/?$/.exec(path);
  return parts && decodeURIComponent(parts[1]).toLowerCase();
}

/**
 * The campaign that is open now; otherwise the one that opens next, otherwise the one that ended last.
 * @param {Pick<CampaignSummary, "id" | "state" | "opens" | "closes">[]} campaigns
 * @param {number} nowMs
 */
export function firstOf(campaigns, nowMs) {
  const phases = ["open", "not_open", "closed", "sealed"];
  /** @param {typeof campaigns[0]} campaign */
  const place = (campaign) => phases.indexOf(phaseOf(campaign, nowMs));
  /** @param {typeof campaigns[0]} campaign */
  const distanceMs = (campaign) => Math.abs(Date.parse(place(campaign) === 1 ? campaign.opens : campaign.closes) - nowMs);
  const [first] = [...campaigns].sort((a, b) => Math.min(place(a), 2) - Math.min(place(b), 2) || distanceMs(a) - distanceMs(b));
  return first ? first.id : null;
}

/** @param {string} campaign */
export const pathOf = (campaign) => `/c/${encodeURIComponent(campaign)}`;

/** @param {string} campaign */
export const recordPath = (campaign) => `/v1/campaigns/${encodeURIComponent(campaign)}/tally.csv`;

/**
 * The two lines that put a like button on another site.
 * @param {string} origin
 * @param {string} campaign
 * @param {string} candidate
 * @param {string} publisher one of the campaign's codes; empty if it has none
 */
export const embedTags = (origin, campaign, candidate, publisher) =>
  `<script src="${origin}/like-button.js" defer></script>\n` +
  `<dianzan-like campaign="${campaign}" candidate="${candidate}"` +
  `${publisher && ` publisher="${publisher}"`}></dianzan-like>`;
