/** Owns the dialog that tells one candidate's story. */
import { element, face, fillReceipt, likeButton, lock, receiptLine, tags } from "./cards.js";
import { readCandidate } from "./results.js";
import { words } from "./texts.js";

function paragraphs(text) {
  return text.split(/\n+/).map((line) => line.trim()).filter(Boolean).map((line) => element("p", "", line));
}

export class Story {
  constructor(dialog, campaign) {
    this.dialog = dialog;
    this.campaign = campaign;
    this.code = null;
    this.opener = null;
    this.phase = "open";
    this.receipts = new Map();
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => this.closed());
  }

  open(candidate) {
    this.code = candidate.code;
    this.opener = document.activeElement;
    this.body = element("div", "text");
    this.like = likeButton(this.campaign, candidate);
    this.receipt = receiptLine();
    this.dialog.replaceChildren(element("div", "sheet", this.head(candidate), this.body, this.foot()));
    lock(this.like, this.phase);
    this.like.take(candidate.likes);
    fillReceipt(this.receipt, this.receipts.get(this.code));
    this.dialog.showModal();
    this.dialog.scrollTop = 0;
    this.tell(candidate);
  }

  head(candidate) {
    const name = element("h2", "", candidate.name);
    name.id = "story-name";
    const close = element("button", "close", "×");
    close.type = "button";
    close.setAttribute("aria-label", words.close);
    close.addEventListener("click", () => this.dialog.close());
    return element("div", "head", face(candidate), element("div", "who", name, tags(candidate)), close);
  }

  foot() {
    return element("div", "act", this.receipt, this.like);
  }

  async tell(candidate) {
    const summary = element("p", "lead", candidate.summary || "");
    this.body.replaceChildren(summary, element("p", "", words.loading));
    const { body } = this;
    try {
      const { story } = await readCandidate(this.campaign, candidate.code);
      body.replaceChildren(summary, ...paragraphs(story || words.storyMissing));
    } catch (refusal) {
      console.warn("dianzan: story:", refusal);
      const retry = element("button", "plain", words.retry);
      retry.addEventListener("click", () => this.tell(candidate));
      body.replaceChildren(summary, element("p", "", words.storyFailed, " ", retry));
    }
  }

  /** Browsers return the focus to a button by themselves; Safari does so only when it was reached by keyboard. */
  closed() {
    this.code = null;
    if (this.opener && this.opener.isConnected) this.opener.focus({ preventScroll: true });
  }

  take(counts) {
    if (this.code && counts[this.code]) this.like.take(counts[this.code][1]);
  }

  lock(phase) {
    this.phase = phase;
    if (this.code) lock(this.like, phase);
  }

  showReceipts(receipts) {
    this.receipts = receipts;
    if (this.code) fillReceipt(this.receipt, receipts.get(this.code));
  }
}
