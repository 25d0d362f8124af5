/** Owns the candidates' cards: one card, and the grid that orders and filters them. */
import { language, number, words } from "./texts.js";

const calmMsMin = 5000; // nothing moves under a finger: the order changes only after this long without a touch
const avatarTones = 8;

export function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

function toneOf(code) {
  let sum = 0;
  for (const letter of code) sum = (sum * 31 + letter.codePointAt(0)) % 9973;
  return sum % avatarTones;
}

/** Chinese people are called by the end of their name, teams by its start, others by their initials. */
function initialsOf({ name, kind }) {
  const plain = name.replace(/[^\p{L}\p{N} ·•]/gu, "").trim();
  const letters = Array.from(plain.split(/[·•]/)[0]);
  if (/\p{Script=Han}/u.test(plain)) return (kind === "team" ? letters.slice(0, 2) : letters.slice(-2)).join("");
  return plain.split(/\s+/).slice(0, 2).map((word) => word.slice(0, 1).toUpperCase()).join("");
}

export function face(candidate) {
  const round = element("span", `face tone-${toneOf(candidate.code)}`, initialsOf(candidate));
  round.setAttribute("aria-hidden", "true");
  if (!candidate.photo) return round;
  const photo = element("img", "");
  photo.alt = "";
  photo.loading = "lazy";
  photo.decoding = "async";
  photo.referrerPolicy = "no-referrer"; // many image hosts refuse a foreign Referer
  photo.addEventListener("error", () => photo.remove()); // the initials are underneath
  photo.src = candidate.photo;
  round.append(photo);
  return round;
}

export function tags({ kind, district, category, code }) {
  const kindTag = element("span", "kind", words.kinds[kind] || kind || "");
  const where = element("span", "", [district, category, code].filter(Boolean).join(" · "));
  return element("p", "tags", kindTag, where);
}

export function likeButton(campaign, { code, name }) {
  const button = document.createElement("dianzan-like");
  const attributes = { campaign, candidate: code, label: name, publisher: "page", counts: "given", lang: language };
  for (const [key, value] of Object.entries(attributes)) button.setAttribute(key, value);
  return button;
}

export function lock(button, phase) {
  if (phase === "open") button.removeAttribute("locked");
  else button.setAttribute("locked", phase === "not_open" ? phase : "closed");
}

/** Copying works without the clipboard API too, which plain http does not have. */
async function copy(text, shown) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  getSelection().selectAllChildren(shown);
  return document.execCommand("copy");
}

export function receiptLine() {
  const shown = element("code", "");
  const button = element("button", "plain", words.copy);
  button.type = "button";
  button.addEventListener("click", async () => {
    await copy(shown.textContent, shown);
    button.textContent = words.copied;
  });
  const line = element("p", "receipt", `${words.receipt} `, shown, button);
  line.hidden = true;
  return line;
}

export function fillReceipt(line, receipt) {
  const grouped = receipt ? receipt.replace(/(.{4})(?=.)/g, "$1-") : "";
  const shown = line.querySelector("code");
  line.hidden = !receipt;
  if (shown.textContent === grouped) return;
  shown.textContent = grouped;
  line.querySelector("button").textContent = words.copy;
}

class Card {
  constructor(campaign, candidate, onOpen) {
    this.candidate = candidate;
    this.rank = element("span", "rank");
    this.people = element("span", "people");
    this.receipt = receiptLine();
    this.like = likeButton(campaign, candidate);
    const name = element("button", "name", candidate.name);
    name.type = "button";
    name.setAttribute("aria-haspopup", "dialog");
    name.addEventListener("click", () => onOpen(candidate));
    const head = element("div", "head", face(candidate), element("div", "who", element("h2", "", name), tags(candidate)));
    const summary = element("p", "summary", candidate.summary || "");
    this.root = element("li", "card", this.rank, head, summary, element("div", "act", this.people, this.like), this.receipt);
    this.text = [candidate.name, candidate.code, candidate.district, candidate.category, candidate.summary].join("\n").toLowerCase();
  }

  take([rank, likes, people], estimated) {
    Object.assign(this.candidate, { rank, likes, people });
    this.like.take(likes);
    this.rank.textContent = rank === null ? "" : words.rank(rank);
    this.rank.dataset.place = rank !== null && rank <= 3 ? rank : "";
    this.people.textContent = people === null ? "" : words.peopleOf(number(people), estimated);
  }
}

const byCode = (a, b) => a.code.localeCompare(b.code, "en", { numeric: true });
const byText = new Intl.Collator("zh-CN").compare;
const orders = {
  rank: (a, b) => a.rank - b.rank || byCode(a, b),
  code: byCode,
  district: (a, b) => byText(a.district || "", b.district || "") || byCode(a, b),
};

export class Grid {
  constructor(root, campaign, candidates, onOpen) {
    this.root = root;
    this.order = "code";
    this.touchedMs = 0;
    this.cards = new Map(candidates.map((each) => [each.code, new Card(campaign, each, onOpen)]));
    root.replaceChildren(...Array.from(this.cards.values(), (card) => card.root));
    for (const type of ["pointerdown", "pointermove", "wheel", "keydown", "touchmove"]) {
      addEventListener(type, () => { this.touchedMs = Date.now(); }, { passive: true });
    }
  }

  /** Numbers change at once; the order waits until nobody is reading, tapping or tabbing through the list. */
  take(counts, estimated) {
    for (const [code, count] of Object.entries(counts)) {
      const card = this.cards.get(code);
      if (card) card.take(count, estimated);
    }
    const calm = Date.now() - this.touchedMs > calmMsMin && !this.root.contains(document.activeElement);
    if (this.order === "rank" && calm && scrollY === 0) this.arrange();
  }

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

  /** Returns how many cards are left to see. */
  filter(query) {
    const parts = query.toLowerCase().split(/\s+/).filter(Boolean);
    let found = 0;
    for (const card of this.cards.values()) {
      card.root.hidden = !parts.every((part) => card.text.includes(part));
      found += card.root.hidden ? 0 : 1;
    }
    return found;
  }

  lock(phase) {
    for (const card of this.cards.values()) lock(card.like, phase);
  }

  showReceipts(receipts) {
    for (const [code, card] of this.cards) fillReceipt(card.receipt, receipts.get(code));
  }
}
