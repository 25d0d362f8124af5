// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { answerSaid, momentOf, refusalSaid, spoken } from "../../services/results_api/web/button/sayings.js";
import { Tally } from "../../services/results_api/web/button/tally.js";
import { Refusal } from "../../services/results_api/web/shared/requests.js";
import { voteRootOf } from "../../services/results_api/web/button/voter.js";

test("the window's end is told by the campaign's own clock, in English with its zone", () => {
  assert.equal(momentOf("2026-12-01T00:00:00+08:00", spoken.zh), "12月1日 00:00");
  assert.equal(momentOf("2026-12-01T00:00:00+08:00", spoken.en), "1/12 00:00 (UTC+08:00)");
  assert.equal(momentOf("2026-12-01T09:30:15.250Z", spoken.en), "1/12 09:30 (UTCZ)");
  for (const unknown of [null, "", "soon"]) assert.equal(momentOf(unknown, spoken.zh), "");
});

const midnight = "2026-12-01T00:00:00+08:00";
const sayings = /** @type {const} */ ([
  ["counted", true, "林晓禾", midnight, "点赞成功：林晓禾"],
  ["counted", true, "", midnight, "点赞成功"],
  ["already_liked", true, "林晓禾", midnight, "点赞成功：林晓禾"],
  ["already_liked", false, "林晓禾", midnight, "已经点过赞了，12月1日 00:00 后可再点"],
  ["already_liked", false, "林晓禾", null, "已经点过赞了"],
  ["over_quota", false, "林晓禾", midnight, "点赞次数用完了，12月1日 00:00 恢复"],
  ["over_quota", false, "林晓禾", null, "点赞次数用完了"],
  ["unknown_candidate", false, "", midnight, "没有这位候选人"],
]);

for (const [status, mine, name, resetsAt, said] of sayings) {
  test(`the answer ${status}, ${mine ? "one's own" : "an earlier one's"}, of "${name}" until ${resetsAt} is told as ${said}`, () => {
    assert.equal(answerSaid({ status, mine }, name, resetsAt, spoken.zh), said);
  });
}

test("a refusal is told by what the voter can do about it", () => {
  const refused = /** @type {const} */ ([
    ["closed", 409, spoken.zh.closed],
    ["not_open", 409, spoken.zh.not_open],
    ["overloaded", 503, spoken.zh.failed],
    ["store_full", 503, spoken.zh.failed],
    ["too_many_requests", 429, spoken.zh.failed],
    ["store_unavailable", 503, spoken.zh.unconfirmed],
    ["unreachable", 0, spoken.zh.unconfirmed],
    ["unreadable", 0, spoken.zh.unconfirmed],
    ["campaign_unknown", 404, spoken.zh.no_campaign],
    ["token_invalid", 401, spoken.zh.failed],
    ["class_not_allowed", 403, spoken.zh.refused],
  ]);
  for (const [code, status, said] of refused) {
    assert.equal(refusalSaid(new Refusal(code, status), spoken.zh), said, code);
  }
});

test("the vote API is at its own address, on a port of the results API's host, or at the results API's own", () => {
  const results = "https://results.example/";
  assert.equal(voteRootOf("https://vote.example/api", results), "https://vote.example/api/");
  assert.equal(voteRootOf("https://vote.example/", results), "https://vote.example/");
  assert.equal(voteRootOf(":8000", "http://10.0.0.7:8001/"), "http://10.0.0.7:8000/");
  assert.equal(voteRootOf("", results), results);
});

/** @param {(number | null)[]} results */
function tallyAfter(...results) {
  const tally = new Tally("demo");
  for (const likes of results) tally.take("c01", likes);
  return tally;
}

test("a counted like is shown at once, added to what was shown when it was sent", () => {
  const tally = tallyAfter(41);
  tally.promise("c01", tally.shown("c01"));
  assert.equal(tally.shown("c01"), 42);
});

test("results that do not hold the like yet take nothing back, and those that hold it add nothing", () => {
  const tally = tallyAfter(41);
  tally.promise("c01", 41);
  const seen = [41, 41, 42, 42, 45].map((likes) => {
    tally.take("c01", likes);
    return tally.shown("c01");
  });
  assert.deepEqual(seen, [42, 42, 42, 42, 45]);
});

test("a like that the results held before its answer came is not added again", () => {
  const tally = tallyAfter(41);
  const shownBefore = tally.shown("c01");
  tally.take("c01", 42);
  tally.promise("c01", shownBefore);
  assert.equal(tally.shown("c01"), 42);
});

test("a kept promise is forgotten: numbers corrected downwards are shown", () => {
  const tally = tallyAfter(41);
  tally.promise("c01", 41);
  tally.take("c01", 42);
  tally.take("c01", 40);
  assert.equal(tally.shown("c01"), 40);
});

test("no number is shown while the results are hidden or not read yet, and a like makes none", () => {
  for (const tally of [tallyAfter(), tallyAfter(null)]) {
    tally.promise("c01", tally.shown("c01"));
    assert.equal(tally.shown("c01"), null);
  }
});
