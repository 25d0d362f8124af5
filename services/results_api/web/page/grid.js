// @ts-check
/** Owns the cards, one for each candidate, and their grid: how it orders and filters them, and when it may move them. */
import { button, element, face, likeButton, lock, ReceiptLine, tags } from "./parts.js";
/** @import { ResultRow } from "../shared/documents.d.ts" */
/** @import { Phase } from "../shared/phase.js" */
/** @import { Count } from "./results.js" */
/** @import { Texts } from "./texts.js" */

const calmMsMin = 5000; // nothing moves under a finger: the order changes only after this long without a touch

/**
 * As it is compared: full-width letters and digits are plain ones, and the blanks by which tables pad names are none.
 * @param {string} text
 */
const folded = (text) => text.normalize("NFKC").toLowerCase().replace(/[^\S\n]+/g, "");

/**
 * Whether every word of a query stands in what is told of a candidate.
 * @param {ResultRow} candidate
 * @param {string} query
 */
export function matches({ name, pinyin, code, district, category, summary }, query) {
  const text = folded([name, pinyin.replaceAll(" ", "\n"), code, district, category, summary].join("\n"));
  return query.split(/\s+/).every((word) => text.includes(folded(word)));
}

/**
 * Whether two rows differ in their numbers alone.
 * @param {ResultRow} one
 * @param {ResultRow} other
 */
export const sameWords = (one, other) => {
  const numbers = { rank: null, likes: null, people: null };
  return JSON.stringify({ ...one, ...numbers }) === JSON.stringify({ ...other, ...numbers });
};

export class Card {
  /**
   * @param {string} campaign
   * @param {ResultRow} candidate
   * @param {Texts} texts
   * @param {(candidate: ResultRow) => void} onOpen
   */
  constructor(campaign, candidate, texts, onOpen) {
    this.candidate = candidate;
    this.texts = texts;
    this.rank = element("span", "rank");
    this.people = element("span", "people");
    this.receipt = new ReceiptLine(texts);
    this.like = likeButton(campaign, candidate, texts);
    const name = button("name", candidate.name, () => onOpen(candidate));
    name.setAttribute("aria-haspopup", "dialog");
    const who = element("div", "who", element("h2", "", name), tags(candidate, texts));
    const head = element("div", "head", face(candidate), who);
    const summary = element("p", "summary", candidate.summary || "");
    const act = element("div", "act", this.people, this.like);
    this.root = element("li", "card", this.rank, head, summary, act, this.receipt.root);
  }

  /**
   * @param {Count} count
   * @param {boolean} estimated
   */
  take({ rank, likes, people }, estimated) {
    Object.assign(this.candidate, { rank, likes, people });
    this.like.take(likes);
    this.rank.textContent = this.texts.rank(rank);
    this.rank.dataset.place = rank !== null && rank <= 3 ? String(rank) : "";
    this.people.textContent = this.texts.people(people, estimated);
  }

  /** @param {string} query */
  matches(query) {
    return matches(this.candidate, query);
  }

  /** @param {Phase} phase */
  lock(phase) {
    lock(this.like, phase);
  }
}

/** @typedef {(a: ResultRow, b: ResultRow) => number} Order */

const byText = new Intl.Collator("zh-CN").compare;
/** @type {Order} */
const byCode = (a, b) => a.code.localeCompare(b.code, "en", { numeric: true });
/** @type {Record<string, Order>} */
export const orders = {
  rank: (a, b) => Number(a.rank ?? Number.MAX_SAFE_INTEGER) - Number(b.rank ?? Number.MAX_SAFE_INTEGER) || byCode(a, b),
  code: byCode,
  district: (a, b) => byText(a.district || "", b.district || "") || byCode(a, b),
};

export class Grid {
  /**
   * @param {HTMLElement} root
   * @param {string} campaign
   * @param {ResultRow[]} candidates
   * @param {Texts} texts
   * @param {(candidate: ResultRow) => void} onOpen
   */
  constructor(root, campaign, candidates, texts, onOpen) {
    this.root = root;
    this.order = "code";
    this.touchedMs = 0;
    /** @param {ResultRow} candidate */
    this.newCard = (candidate) => new Card(campaign, candidate, texts, onOpen);
    /** @type {Map<string, Card>} */
    this.cards = new Map();
    this.replace(candidates);
    this.listen();
  }

  /**
   * A card whose words have not changed stays, and with it the reader's place and focus.
   * @param {ResultRow[]} candidates
   */
  replace(candidates) {
    const before = this.cards;
    /** @param {ResultRow} each */
    const cardOf = (each) => {
      const known = before.get(each.code);
      return known && sameWords(known.candidate, each) ? known : this.newCard(each);
    };
    this.cards = new Map(candidates.map((each) => [each.code, cardOf(each)]));
    for (const [code, card] of before) if (this.cards.get(code) !== card) card.root.remove();
    this.arrange();
  }

  listen() {
    for (const type of ["pointerdown", "pointermove", "wheel", "keydown", "touchmove"]) {
      addEventListener(type, () => { this.touchedMs = Date.now(); }, { passive: true });
    }
  }

  /**
   * Numbers change at once; the order waits until nobody is reading, tapping or tabbing through the list.
   * @param {Record<string, Count>} counts
   * @param {boolean} estimated
   */
  take(counts, estimated) {
    for (const [code, count] of Object.entries(counts)) this.cards.get(code)?.take(count, estimated);
    const calm = Date.now() - this.touchedMs > calmMsMin && !this.root.contains(document.activeElement);
    if (this.order === "rank" && calm && scrollY === 0) this.arrange();
  }

  /** @param {string} order */
  sortBy(order) {
    this.order = order;
    this.arrange();
  }

  arrange() {
    const wanted = Array.from(this.cards.values());
    wanted.sort((a, b) => orders[this.order](a.candidate, b.candidate));
    wanted.forEach((card, place) => {
      const there = this.root.children[place];
      if (there !== card.root) this.root.insertBefore(card.root, there);
    });
  }

  /**
   * Returns how many cards are left to see.
   * @param {string} query
   */
  filter(query) {
    let left = 0;
    for (const card of this.cards.values()) {
      card.root.hidden = !card.matches(query);
      left += card.root.hidden ? 0 : 1;
    }
    return left;
  }

  /** @param {Phase} phase */
  lock(phase) {
    for (const card of this.cards.values()) card.lock(phase);
  }

  /** @param {Map<string, string>} receipts */
  showReceipts(receipts) {
    for (const [code, card] of this.cards) card.receipt.show(receipts.get(code));
  }
}
