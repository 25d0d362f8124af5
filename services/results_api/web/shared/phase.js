// @ts-check
/** Owns the phase of a campaign: what page and button both lock by. */
/** @import { CampaignSummary } from "./documents.d.ts" */

/** @typedef {"not_open" | "open" | "closed" | "sealed"} Phase */

/**
 * The server says which campaigns are over; the clock tells it to a page that stays open.
 * @param {Pick<CampaignSummary, "state" | "opens" | "closes">} campaign
 * @param {number} nowMs
 * @returns {Phase}
 */
export function phaseOf({ state, opens, closes }, nowMs) {
  if (state === "sealed") return "sealed";
  if (state === "closed" || nowMs >= Date.parse(closes)) return "closed";
  return nowMs < Date.parse(opens) ? "not_open" : "open";
}
