// @ts-check
/** Owns how the page writes in the reader's language: sentences, numbers and times. */
import { filled, wordsIn } from "../shared/words.js";
import { dictionary } from "./words.js";
/** @import { Language } from "../shared/words.js" */
/** @import { CampaignSummary, ResultRow } from "../shared/documents.d.ts" */
/** @import { Phase } from "../shared/phase.js" */

/** @type {(value: number) => string} */
export const number = (value) => value.toLocaleString("en-US");

/** The parts of a moment that the page shows. */
const dayAndTime = /** @type {const} */ ({ month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });
const timeOnly = /** @type {const} */ ({ hour: "2-digit", minute: "2-digit", second: "2-digit" });

/**
 * The language asked for by the address, otherwise the one remembered, otherwise the first that the browser's user reads,
 * otherwise Chinese.
 * @param {string | null} asked
 * @param {string | null} remembered
 * @param {readonly string[]} read
 * @returns {Language}
 */
export function languageOf(asked, remembered, read = []) {
  for (const language of [asked, remembered, ...read.map((tag) => tag.slice(0, 2).toLowerCase())]) {
    if (language === "zh" || language === "en") return language;
  }
  return "zh";
}

export class Texts {
  /** @param {Language} language */
  constructor(language) {
    this.language = language;
    this.words = wordsIn(dictionary, language);
  }

  /** @param {ResultRow["kind"]} kind */
  kind(kind) {
    return this.words[kind] || kind || "";
  }

  /** @param {number | null} rank */
  rank(rank) {
    return rank === null ? "" : filled(this.words.rank, { rank });
  }

  /**
   * @param {number | null} people
   * @param {boolean} estimated
   */
  people(people, estimated) {
    if (people === null) return "";
    return filled(estimated ? this.words.aboutPeopleOf : this.words.peopleOf, { people: number(people) });
  }

  /** @param {number} count */
  found(count) {
    return count ? filled(this.words.found, { count }) : this.words.foundNone;
  }

  /**
   * What the phase of a campaign means to a reader.
   * @param {Phase} phase
   * @param {CampaignSummary} campaign
   * @param {number} nowMs
   */
  phase(phase, { opens, closes, timezone }, nowMs) {
    const { phaseNotOpen, phaseOpen, phaseClosed, phaseSealed } = this.words;
    const sentence = { not_open: phaseNotOpen, open: phaseOpen, closed: phaseClosed, sealed: phaseSealed }[phase];
    const left = this.left(Date.parse(closes) - nowMs);
    return filled(sentence, { opens: this.day(opens, timezone), closes: this.day(closes, timezone), left });
  }

  /**
   * The time left, in its largest whole unit.
   * @param {number} ms
   */
  left(ms) {
    const minutes = Math.max(1, Math.floor(ms / 60000));
    const hours = Math.floor(minutes / 60);
    const days = Math.floor(minutes / 1440);
    if (days) return filled(this.words.days, { count: days });
    return hours ? filled(this.words.hours, { count: hours }) : filled(this.words.minutes, { count: minutes });
  }

  /**
   * How fresh the numbers are.
   * @param {{ as_of: string, sealed: boolean, likes: number | null }} news
   * @param {string} timeZone
   */
  freshness({ as_of: asOf, sealed, likes }, timeZone) {
    if (sealed) return filled(this.words.final, { day: this.day(asOf, timeZone) });
    return likes === null ? this.words.hidden : filled(this.words.asOf, { time: this.time(asOf, timeZone) });
  }

  /**
   * @param {string} asOf
   * @param {string} timeZone
   */
  stale(asOf, timeZone) {
    return filled(this.words.stale, { time: this.time(asOf, timeZone) });
  }

  /**
   * @param {string} iso
   * @param {string} timeZone
   */
  day(iso, timeZone) {
    return this.format(iso, { ...dayAndTime, timeZone });
  }

  /**
   * @param {string} iso
   * @param {string} timeZone
   */
  time(iso, timeZone) {
    return this.format(iso, { ...timeOnly, timeZone });
  }

  /**
   * @param {string} iso
   * @param {Intl.DateTimeFormatOptions} options
   */
  format(iso, options) {
    const locale = this.language === "zh" ? "zh-CN" : "en-GB";
    return new Intl.DateTimeFormat(locale, { ...options, hourCycle: "h23" }).format(new Date(iso));
  }
}
