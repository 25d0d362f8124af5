// @ts-check
import assert from "node:assert/strict";
import { test } from "node:test";
import { campaignIn, embedTags, firstOf } from "../../services/results_api/web/page/campaign.js";
import { phaseOf } from "../../services/results_api/web/shared/phase.js";
import { matches, orders, sameWords } from "../../services/results_api/web/page/grid.js";
import { grouped, initialsOf, toneOf } from "../../services/results_api/web/page/parts.js";
import { newsOfEvent, newsOfResults } from "../../services/results_api/web/page/results.js";
import { paragraphsOf } from "../../services/results_api/web/page/story.js";
import { languageOf, Texts } from "../../services/results_api/web/page/texts.js";
/** @import { ResultRow } from "../../services/results_api/web/shared/documents.d.ts" */

/** @type {ResultRow} */
const lin = {
  rank: 1, code: "c01", name: "林晓禾", pinyin: "linxiaohe lxh", kind: "person", district: "东城区", category: "社区服务", summary: "送早餐。", photo: "",
  likes: 5, people: 4,
};

test("a face shows the end of a Chinese name, the start of a team's, and the initials of others", () => {
  const names = /** @type {const} */ ([
    ["林晓禾", "person", "晓禾"],
    ["王五", "person", "王五"],
    ["钟鼓巷守夜人巡逻队", "team", "钟鼓"],
    ["古丽·阿依", "person", "古丽"],
    ["“林晓禾”（街道）", "person", "街道"],
    ["Marie Curie-Skłodowska", "person", "MC"],
    ["ada", "person", "A"],
    ["……", "person", ""],
  ]);
  for (const [name, kind, initials] of names) assert.equal(initialsOf({ name, kind }), initials, name);
});

test("a candidate's tone is one of eight, and the same at every visit", () => {
  const tones = Array.from({ length: 66 }, (_, index) => toneOf(`c${index + 1}`));
  assert.deepEqual(new Set(tones), new Set([0, 1, 2, 3, 4, 5, 6, 7]));
  assert.equal(toneOf("c01"), 7);
});

test("a campaign's phase follows from its state, and from the clock if the state cannot tell", () => {
  const [opens, closes] = ["2026-11-01T08:00:00+08:00", "2026-11-20T08:00:00+08:00"];
  const phases = /** @type {const} */ ([
    ["published", "2026-11-01T07:59:59+08:00", "not_open"],
    ["published", "2026-11-01T08:00:00+08:00", "open"],
    ["published", "2026-11-20T07:59:59+08:00", "open"],
    ["published", "2026-11-20T08:00:00+08:00", "closed"],
    ["closed", "2026-11-10T08:00:00+08:00", "closed"],
    ["sealed", "2026-11-10T08:00:00+08:00", "sealed"],
  ]);
  for (const [state, now, phase] of phases) assert.equal(phaseOf({ state, opens, closes }, Date.parse(now)), phase);
});

/** @type {(id: string, state: "published" | "sealed", opens: string, closes: string) => Parameters<typeof firstOf>[0][0]} */
const dated = (id, state, opens, closes) => ({ id, state, opens: `${opens}T00:00:00Z`, closes: `${closes}T00:00:00Z` });

test("the first page is of the campaign that is open, otherwise of the next, otherwise of the last", () => {
  const year = [
    dated("first", "sealed", "2024-11-01", "2024-11-20"),
    dated("last", "sealed", "2025-11-01", "2025-11-20"),
    dated("open", "published", "2026-11-01", "2026-11-20"),
    dated("far", "published", "2028-11-01", "2028-11-20"),
    dated("next", "published", "2027-11-01", "2027-11-20"),
  ];
  const nowMs = Date.parse("2026-11-10T00:00:00Z");
  assert.equal(firstOf(year, nowMs), "open");
  assert.equal(firstOf(year.filter(({ id }) => id !== "open"), nowMs), "next");
  assert.equal(firstOf(year.slice(0, 2), nowMs), "last");
  assert.equal(firstOf([], nowMs), null);
});

test("candidates whom nobody has liked stand behind all others, by their codes", () => {
  const rows = [{ ...lin, code: "c1", rank: null }, { ...lin, code: "c9", rank: 1 }, { ...lin, code: "c0", rank: null }];
  assert.deepEqual(rows.sort(orders.rank).map(({ code }) => code), ["c9", "c0", "c1"]);
});

test("the address names the campaign, or none", () => {
  const paths = /** @type {const} */ ([["/c/demo", "demo"], ["/c/demo/", "demo"], ["/c/a%20b", "a b"], ["/", null], ["/c/", null]]);
  for (const [path, campaign] of paths) assert.equal(campaignIn(path), campaign);
});

test("the tags to embed are those of the README", () => {
  assert.equal(
    embedTags("https://results.example", "demo", "c17", "bjnews"),
    '<script src="https://results.example/like-button.js" defer></script>\n' +
      '<dianzan-like campaign="demo" candidate="c17" publisher="bjnews"></dianzan-like>',
  );
  assert.match(embedTags("https://results.example", "demo", "c17", ""), /candidate="c17"><\/dianzan-like>$/);
});

const totals = { likes: 8, people: 6, people_estimated: true, sealed: false, version: 3, as_of: "2026-11-23T18:24:55+00:00" };
const duo = { ...lin, rank: 2, code: "c02", likes: 3, people: 2 };

test("an event of the stream and a whole answer are the same news", () => {
  const told = newsOfEvent({ ...totals, counts: { c01: [1, 5, 4], c02: [2, 3, 2] } });
  const rules = /** @type {const} */ ({ state: "published", opens: "2026-11-01T08:00:00+08:00", closes: "2026-11-20T08:00:00+08:00" });
  const read = newsOfResults({ ...totals, ...rules, campaign: "demo", results: [lin, duo] });
  assert.deepEqual(told, { ...totals, counts: { c01: { rank: 1, likes: 5, people: 4 }, c02: { rank: 2, likes: 3, people: 2 } } });
  for (const code of /** @type {const} */ (["c01", "c02"])) {
    const { rank, likes, people } = read.counts[code];
    assert.deepEqual({ rank, likes, people }, told.counts[code]);
  }
});

test("news of hidden results hold no number", () => {
  const none = { likes: null, people: null, people_estimated: false };
  assert.deepEqual(newsOfEvent({ ...totals, ...none, counts: {} }), { ...totals, ...none, counts: {} });
});

test("a card stays where only numbers have changed", () => {
  assert(sameWords(lin, { ...lin, rank: 9, likes: 99, people: 98 }));
  for (const changed of [{ name: "林" }, { summary: "" }, { photo: "https://a.example/p.jpg" }]) assert(!sameWords(lin, { ...lin, ...changed }));
});

test("a search finds the candidate in whom every word stands, in any letter case and order", () => {
  for (const query of ["", "林", "东城 晓禾", "C01", "早餐 社区", "lin xiao", "LXH", "linxiaohe 东城"]) assert(matches(lin, query), query);
  const padded = { ...lin, name: "林　晓 禾", code: "Ｃ０１" };
  for (const query of ["林晓禾", "林 晓禾", "林　晓禾", "ｃ01", "C01"]) assert(matches(padded, query), query);
  for (const query of ["西城", "林 西城", "c011", "linxiaohel", "hxl"]) assert(!matches(lin, query), query);
});

test("codes are ordered as numbers, ranks by code within a rank, districts as a Chinese reader expects", () => {
  const rows = [
    { ...lin, code: "c10", rank: 1, district: "西城区" },
    { ...lin, code: "c9", rank: 1, district: "东城区" },
    { ...lin, code: "c2", rank: 3, district: "朝阳区" },
  ];
  /** @param {string} order */
  const codes = (order) => [...rows].sort(orders[order]).map((row) => row.code);
  assert.deepEqual(codes("code"), ["c2", "c9", "c10"]);
  assert.deepEqual(codes("rank"), ["c9", "c10", "c2"]);
  assert.deepEqual(codes("district"), ["c2", "c9", "c10"]);
});

test("a receipt is read in groups of four, a story in its lines that are not empty", () => {
  assert.deepEqual(grouped("9X6CFKAD96KG44WT"), ["9X6C", "FKAD", "96KG", "44WT"]);
  assert.deepEqual(grouped(""), []);
  assert.deepEqual(paragraphsOf("  一。\n\n二。\r\n \n"), ["一。", "二。"]);
});

test("the language is the one asked for, otherwise the one remembered, otherwise Chinese", () => {
  const choices = /** @type {const} */ ([
    ["en", null, "en"],
    ["zh", "en", "zh"],
    [null, "en", "en"],
    ["fr", "en", "en"],
    ["toString", null, "zh"],
    [null, null, "zh"],
  ]);
  for (const [asked, remembered, language] of choices) assert.equal(languageOf(asked, remembered), language);
  assert.equal(languageOf(null, null, ["en-US", "zh-CN"]), "en");
  assert.equal(languageOf(null, null, ["de-DE", "zh-TW", "en"]), "zh");
  assert.equal(languageOf(null, null, ["de-DE"]), "zh");
  assert.equal(languageOf("zh", "en", ["en"]), "zh");
});

test("the time left is told in its largest whole unit, and never as nothing", () => {
  const zh = new Texts("zh");
  const times = /** @type {const} */ ([
    [-5000, "1 分钟"],
    [59_000, "1 分钟"],
    [59 * 60_000, "59 分钟"],
    [60 * 60_000, "1 小时"],
    [47 * 3_600_000, "1 天"],
    [20 * 86_400_000, "20 天"],
  ]);
  for (const [ms, left] of times) assert.equal(zh.left(ms), left);
});

test("sentences about numbers and times are whole in both languages", () => {
  const [zh, en] = [new Texts("zh"), new Texts("en")];
  const zone = "Asia/Shanghai";
  assert.equal(zh.rank(3), "第 3 名");
  assert.equal(zh.rank(null), "");
  assert.equal(zh.people(12345, true), "约 12,345 人点赞");
  assert.equal(en.people(12345, false), "12,345 people");
  assert.equal(en.people(null, false), "");
  assert.equal(zh.found(0), "没有找到，换个词试试");
  assert.equal(en.found(7), "7 found");
  assert.equal(zh.freshness(totals, zone), "数据截至 02:24:55，自动更新");
  assert.equal(zh.freshness({ ...totals, likes: null }, zone), "活动结束后公布点赞数");
  assert.equal(en.freshness({ ...totals, sealed: true }, zone), "Final result, sealed 24 Nov, 02:24");
  assert.equal(zh.stale(totals.as_of, zone), "数据截至 02:24:55，更新暂时中断，正在重连…");
});

test("the phase is told with its moment, in the campaign's time zone", () => {
  /** @type {Parameters<Texts["phase"]>[1]} */
  const campaign = {
    id: "demo", title: "", opens: "2026-11-01T00:00:00Z", closes: "2026-11-20T00:00:00Z", timezone: "Asia/Shanghai", window: "day",
    likes_per_window: 10, voter_classes: ["device"], results: "live", publishers: [], state: "published", candidates: 66, version: 3,
    title_en: "", brand: "", brand_en: "", introduction: "", how_to_like: "", organiser: "", contact: "", icp_number: "", privacy: "",
  };
  const nowMs = Date.parse("2026-11-17T12:00:00Z");
  assert.equal(new Texts("zh").phase("open", campaign, nowMs), "进行中：11月20日 08:00 截止，还有 2 天");
  assert.equal(new Texts("en").phase("not_open", campaign, nowMs), "Not open yet: liking starts 1 Nov, 08:00");
  assert.equal(new Texts("en").phase("sealed", campaign, nowMs), "Finished, this is the final result");
});
