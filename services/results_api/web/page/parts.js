// @ts-check
/** Owns the parts of the page: elements, and the face, tags, like button and receipt that card and story share. */
/** @import { DianzanLike } from "../button/like-element.js" */
/** @import { ResultRow } from "../shared/documents.d.ts" */
/** @import { Phase } from "../shared/phase.js" */
/** @import { Texts } from "./texts.js" */

const avatarTones = 8;

/**
 * @template {keyof HTMLElementTagNameMap} Name
 * @param {Name} name
 * @param {string} className
 * @param {(Node | string)[]} children
 */
export function element(name, className, ...children) {
  const made = document.createElement(name);
  made.className = className;
  made.append(...children);
  return made;
}

/**
 * @param {string} className
 * @param {string} text
 * @param {() => void} onClick
 */
export function button(className, text, onClick) {
  const made = element("button", className, text);
  made.type = "button";
  made.addEventListener("click", onClick);
  return made;
}

/**
 * The first element that a selector finds.
 * @param {ParentNode} root
 * @param {string} selector
 */
export function part(root, selector) {
  const found = root.querySelector(selector);
  if (!(found instanceof HTMLElement)) throw new Error(`there is no ${selector}`);
  return found;
}

/**
 * An element of index.html.
 * @param {string} id
 */
export const by = (id) => part(document, `#${id}`);

/**
 * The same tone for a candidate at every visit.
 * @param {string} code
 */
export function toneOf(code) {
  let sum = 0;
  for (const letter of code) sum = (sum * 31 + Number(letter.codePointAt(0))) % 9973;
  return sum % avatarTones;
}

/**
 * Chinese people are called by the end of their name, teams by its start, others by their initials.
 * @param {Pick<ResultRow, "name" | "kind">} candidate
 */
export function initialsOf({ name, kind }) {
  const plain = name.replace(/[^\p{L}\p{N} ·•]/gu, "").trim();
  const letters = Array.from(plain.split(/[·•]/)[0]);
  if (/\p{Script=Han}/u.test(plain)) return (kind === "team" ? letters.slice(0, 2) : letters.slice(-2)).join("");
  return plain.split(/\s+/).slice(0, 2).map((word) => word.slice(0, 1).toUpperCase()).join("");
}

/** @param {ResultRow} candidate */
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

/**
 * @param {ResultRow} candidate
 * @param {Texts} texts
 */
export function tags({ kind, district, category, code }, texts) {
  const kindTag = element("span", "kind", texts.kind(kind));
  const where = element("span", "", [district, category, code].filter(Boolean).join(" · "));
  return element("p", "tags", kindTag, where);
}

/**
 * @param {string} campaign
 * @param {ResultRow} candidate
 * @param {Texts} texts
 */
export function likeButton(campaign, { code, name }, texts) {
  const like = /** @type {DianzanLike} */ (document.createElement("dianzan-like"));
  const attributes = { campaign, candidate: code, label: name, publisher: "page", counts: "given", lang: texts.language };
  for (const [key, value] of Object.entries(attributes)) like.setAttribute(key, value);
  return like;
}

/**
 * @param {DianzanLike} like
 * @param {Phase} phase
 */
export function lock(like, phase) {
  if (phase === "open") like.removeAttribute("locked");
  else like.setAttribute("locked", phase === "not_open" ? phase : "closed");
}

/**
 * In groups of four, as people read it; the groups stand apart for the eye alone, so that what is copied is the receipt.
 * @param {string} receipt
 */
export const grouped = (receipt) => receipt.match(/.{1,4}/g) || [];

export class ReceiptLine {
  /** @param {Texts} texts */
  constructor({ words }) {
    this.words = words;
    this.shown = element("code", "");
    this.copyButton = button("plain", words.copy, () => this.copy());
    this.root = element("p", "receipt", `${words.receipt} `, this.shown, this.copyButton);
    this.root.hidden = true;
  }

  /** @param {string | undefined} receipt */
  show(receipt = "") {
    this.root.hidden = !receipt;
    if (this.shown.textContent === receipt) return;
    this.shown.replaceChildren(...grouped(receipt).map((group) => element("span", "", group)));
    this.copyButton.textContent = this.words.copy;
  }

  async copy() {
    await this.write();
    this.copyButton.textContent = this.words.copied;
  }

  /** Copying works without the clipboard API too, which plain http does not have. */
  async write() {
    if (navigator.clipboard) return navigator.clipboard.writeText(this.shown.textContent);
    getSelection()?.selectAllChildren(this.shown);
    document.execCommand("copy");
  }
}
