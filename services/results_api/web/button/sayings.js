// @ts-check
/** Owns which sentence the button says to an answer or a refusal. */
import { dictionary, filled, wordsIn } from "../shared/words.js";
/** @import { LikeResult } from "../shared/documents.d.ts" */

/** @typedef {Record<keyof typeof dictionary, string>} Words */

export const spoken = { zh: wordsIn(dictionary, "zh"), en: wordsIn(dictionary, "en") };

/**
 * The window's end as the campaign's own clock shows it, whatever zone the reader is in; empty while it is not known.
 * @param {string | null} iso
 * @param {Words} said
 */
export function momentOf(iso, said) {
  const parts = /^\d+-(\d+)-(\d+)T(\d+:\d+).*?([+-]\d\d:\d\d|Z)$/.exec(iso || "");
  if (!parts) return "";
  return filled(said.moment, { month: Number(parts[1]), day: Number(parts[2]), time: parts[3], zone: parts[4] });
}

/**
 * @param {{ status: LikeResult["status"], mine: boolean }} answer
 * @param {string} name the candidate's, if it is known
 * @param {string | null} resetsAt
 * @param {Words} said
 */
export function answerSaid({ status, mine }, name, resetsAt, said) {
  const when = momentOf(resetsAt, said);
  if (mine) return name ? filled(said.countedFor, { name }) : said.counted;
  if (status === "already_liked") return when ? filled(said.alreadyUntil, { when }) : said.already;
  if (status === "over_quota") return when ? filled(said.overUntil, { when }) : said.over;
  return status === "unknown_candidate" ? said.unknown : said.refused;
}

/**
 * @param {{ code: string, status: number, unknown: boolean, maybeDone: boolean }} refusal
 * @param {Words} said
 */
export function refusalSaid({ code, status, unknown, maybeDone }, said) {
  if (code === "closed" || code === "not_open") return said[code];
  if (code === "campaign_unknown") return said.no_campaign;
  if (maybeDone) return said.unconfirmed;
  return unknown || status === 401 ? said.failed : said.refused;
}
