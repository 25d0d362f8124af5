// @ts-check
/** Owns the dialog that tells one candidate's story. */
import { button, element, face, likeButton, lock, ReceiptLine, tags } from "./parts.js";
import { readCandidate } from "./results.js";
/** @import { DianzanLike } from "../button/like-element.js" */
/** @import { ResultRow } from "../shared/documents.d.ts" */
/** @import { Phase } from "../shared/phase.js" */
/** @import { Count } from "./results.js" */
/** @import { Texts } from "./texts.js" */

/**
 * A story's paragraphs: its lines that are not empty.
 * @param {string} text
 */
export const paragraphsOf = (text) => text.split(/\n+/).map((line) => line.trim()).filter(Boolean);

/** @typedef {{ code: string, like: DianzanLike, receipt: ReceiptLine }} Shown the candidate in the open dialog */

export class Story {
  /**
   * @param {HTMLDialogElement} dialog
   * @param {string} campaign
   * @param {Texts} texts
   */
  constructor(dialog, campaign, texts) {
    this.dialog = dialog;
    this.campaign = campaign;
    this.texts = texts;
    /** @type {Shown | null} */
    this.shown = null;
    /** @type {Element | null} */
    this.opener = null;
    /** @type {Phase} */
    this.phase = "open";
    /** @type {Map<string, string>} */
    this.receipts = new Map();
    this.modal = typeof dialog.showModal === "function"; // iOS before 15.4 has none: there it is a box over the page
    dialog.addEventListener("click", (event) => { if (event.target === dialog) this.close(); });
    dialog.addEventListener("close", () => this.closed());
    dialog.addEventListener("keydown", ({ key }) => { if (key === "Escape" && !this.modal) this.close(); });
  }

  /** @param {ResultRow} candidate */
  open(candidate) {
    const { code } = candidate;
    const body = element("div", "text");
    const like = likeButton(this.campaign, candidate, this.texts);
    const receipt = new ReceiptLine(this.texts);
    this.shown = { code, like, receipt };
    this.opener = document.activeElement;
    const foot = element("div", "act", receipt.root, like);
    this.dialog.replaceChildren(element("div", "sheet", this.head(candidate), body, foot));
    lock(like, this.phase);
    like.take(candidate.likes);
    receipt.show(this.receipts.get(code));
    this.show();
    this.dialog.scrollTop = 0;
    this.tell(candidate, body);
  }

  show() {
    if (this.modal) return this.dialog.showModal();
    this.dialog.setAttribute("role", "dialog");
    this.dialog.setAttribute("open", "");
    this.dialog.querySelector("button")?.focus();
  }

  close() {
    if (this.modal) return this.dialog.close();
    this.dialog.removeAttribute("open");
    this.closed();
  }

  /** @param {ResultRow} candidate */
  head(candidate) {
    const name = element("h2", "", candidate.name);
    name.id = "story-name";
    const close = button("close", "×", () => this.close());
    close.setAttribute("aria-label", this.texts.words.close);
    return element("div", "head", face(candidate), element("div", "who", name, tags(candidate, this.texts)), close);
  }

  /**
   * @param {ResultRow} candidate
   * @param {HTMLElement} body
   */
  async tell(candidate, body) {
    const { words } = this.texts;
    const summary = element("p", "lead", candidate.summary || "");
    body.replaceChildren(summary, element("p", "", words.loading));
    try {
      const { story } = await readCandidate(this.campaign, candidate.code);
      body.replaceChildren(summary, ...paragraphsOf(story || words.storyMissing).map((text) => element("p", "", text)));
    } catch (refusal) {
      console.warn("dianzan: story:", refusal);
      const retry = button("plain", words.retry, () => this.tell(candidate, body));
      body.replaceChildren(summary, element("p", "", words.storyFailed, " ", retry));
    }
  }

  /** Browsers return the focus to a button by themselves; Safari does so only when it was reached by keyboard. */
  closed() {
    this.shown = null;
    if (this.opener instanceof HTMLElement && this.opener.isConnected) this.opener.focus({ preventScroll: true });
  }

  /** @param {Record<string, Count>} counts */
  take(counts) {
    const count = this.shown && counts[this.shown.code];
    if (count) this.shown?.like.take(count.likes);
  }

  /** @param {Phase} phase */
  lock(phase) {
    this.phase = phase;
    if (this.shown) lock(this.shown.like, phase);
  }

  /** @param {Map<string, string>} receipts */
  showReceipts(receipts) {
    this.receipts = receipts;
    if (this.shown) this.shown.receipt.show(receipts.get(this.shown.code));
  }
}
