// @ts-check
/**
 * Owns the dictionary of page and button, Chinese beside English.
 *
 * What only the page says goes on in page/words.js, so that a button on another site loads no more than it says.
 */

/** @typedef {"zh" | "en"} Language */
/** @typedef {Record<Language, string>} Phrase */

export const dictionary = {
  idle: { zh: "点赞", en: "Like" },
  liked: { zh: "已赞", en: "Liked" },
  pending: { zh: "提交中", en: "Sending" },
  counted: { zh: "点赞成功", en: "Your like is counted" },
  countedFor: { zh: "点赞成功：{name}", en: "Your like for {name} is counted" },
  retrying: { zh: "网络繁忙，正在重试…", en: "The network is busy, trying again…" },
  waiting: { zh: "正在提交，请稍候…", en: "Still sending, please wait…" },
  reading: { zh: "读取中", en: "Loading" },
  unconfirmed: {
    zh: "没有收到答复，点赞可能已经记上，正在核对…",
    en: "No answer. Your like may be recorded; checking…",
  },
  failed: { zh: "没有记上，请重试", en: "Not recorded, please try again" },
  already: { zh: "已经点过赞了", en: "Already liked" },
  alreadyUntil: { zh: "已经点过赞了，{when} 后可再点", en: "Already liked. You can like again from {when}" },
  over: { zh: "点赞次数用完了", en: "No likes left" },
  overUntil: { zh: "点赞次数用完了，{when} 恢复", en: "No likes left until {when}" },
  unknown: { zh: "没有这位候选人", en: "There is no such candidate" },
  no_campaign: { zh: "没有这个活动", en: "There is no such campaign" },
  not_open: { zh: "活动还没有开始", en: "Liking has not opened yet" },
  closed: { zh: "点赞已经截止", en: "Liking has closed" },
  refused: { zh: "这次点赞没有被接受", en: "This like was not accepted" },
  moment: { zh: "{month}月{day}日 {time}", en: "{day}/{month} {time} (UTC{zone})" },
};

/**
 * One language of a dictionary.
 * @template {string} Name
 * @param {Record<Name, Phrase>} phrases
 * @param {Language} language
 * @returns {Record<Name, string>}
 */
export function wordsIn(phrases, language) {
  const words = /** @type {Record<Name, string>} */ ({});
  for (const name in phrases) words[name] = phrases[name][language];
  return words;
}

/**
 * Puts the values in the place of their {names}.
 * @param {string} text
 * @param {Record<string, string | number>} values
 */
export const filled = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => String(values[name]));
