/** Owns the page's words in both languages, and how it writes numbers and times. */

const storageKey = "dianzan:lang";

const texts = {
  zh: {
    skip: "跳到候选名单",
    brand: "为榜样点赞",
    likes: "累计点赞",
    people: "参与人数",
    estimated: "估计",
    remaining: { day: "今天还可点", campaign: "还可点" },
    search: "搜索候选人",
    searchHint: "搜姓名、地区、编号",
    sort: "排序",
    byRank: "按名次",
    byCode: "按编号",
    byDistrict: "按地区",
    found: (count) => (count ? `找到 ${count} 位候选人` : "没有找到，换个词试试"),
    loading: "正在加载…",
    kinds: { person: "个人", team: "团队" },
    rank: (rank) => `第 ${rank} 名`,
    peopleOf: (people, estimated) => `${estimated ? "约 " : ""}${people} 人点赞`,
    receipt: "回执",
    copy: "复制",
    copied: "已复制",
    close: "关闭",
    storyMissing: "暂无详细事迹。",
    storyFailed: "事迹没有加载出来。",
    retry: "重试",
    others: "其他活动",
    csv: "下载最终计票（CSV）",
    embed: "把点赞按钮放到你的网站",
    embedHow: "复制下面两行；candidate 填候选人编号，publisher 填你的站名。",
    embedPublisher: "你的站名",
    privacy: "本页不用 Cookie，不收集姓名。每次点赞都有一个回执，凭它可以在公开记录里找到自己的赞。",
    asOf: (time) => `数据截至 ${time}，自动更新`,
    final: (time) => `最终结果，${time} 封存`,
    stale: (time) => `数据截至 ${time}，更新暂时中断，正在重连…`,
    hidden: "活动结束后公布点赞数",
    phases: {
      not_open: ({ opens }) => `还没有开始：${opens} 开放点赞`,
      open: ({ closes, left }) => `进行中：${closes} 截止，还有 ${left}`,
      closed: ({ closes }) => `点赞已经截止（${closes}），正在核对`,
      sealed: () => "已经结束，以下是最终结果",
    },
    left: ({ days, hours, minutes }) => (days ? `${days} 天` : hours ? `${hours} 小时` : `${minutes} 分钟`),
    failed: "页面没有加载出来，可能是网络不稳。",
    noCampaign: "没有找到这个活动。",
    noneYet: "现在没有正在进行的活动。",
    empty: "候选名单还没有公布。",
  },
  en: {
    skip: "Skip to the candidates",
    brand: "Like a role model",
    likes: "Likes",
    people: "People",
    estimated: "estimate",
    remaining: { day: "Left for today", campaign: "Likes left" },
    search: "Search candidates",
    searchHint: "Name, district, code",
    sort: "Sort",
    byRank: "by rank",
    byCode: "by code",
    byDistrict: "by district",
    found: (count) => (count ? `${count} found` : "Nothing found, try another word"),
    loading: "Loading…",
    kinds: { person: "Person", team: "Team" },
    rank: (rank) => `Rank ${rank}`,
    peopleOf: (people, estimated) => `${estimated ? "about " : ""}${people} people`,
    receipt: "Receipt",
    copy: "Copy",
    copied: "Copied",
    close: "Close",
    storyMissing: "No story yet.",
    storyFailed: "The story did not load.",
    retry: "Try again",
    others: "Other campaigns",
    csv: "Download the final tally (CSV)",
    embed: "Put the like button on your site",
    embedHow: "Copy the two lines; candidate is the candidate's code, publisher the name of your site.",
    embedPublisher: "your-site",
    privacy: "No cookies, no names. Each like has a receipt, with which you find your like in the public record.",
    asOf: (time) => `As of ${time}, updating by itself`,
    final: (time) => `Final result, sealed ${time}`,
    stale: (time) => `As of ${time}. Updates are interrupted, reconnecting…`,
    hidden: "Likes are shown after the campaign",
    phases: {
      not_open: ({ opens }) => `Not open yet: liking starts ${opens}`,
      open: ({ closes, left }) => `Open until ${closes}, ${left} left`,
      closed: ({ closes }) => `Closed (${closes}), being checked`,
      sealed: () => "Finished, this is the final result",
    },
    left: ({ days, hours, minutes }) => (days ? `${days} d` : hours ? `${hours} h` : `${minutes} min`),
    failed: "The page did not load. The network may be unstable.",
    noCampaign: "There is no such campaign.",
    noneYet: "No campaign is running now.",
    empty: "The candidates are not published yet.",
  },
};

function remembered() {
  try {
    return localStorage.getItem(storageKey);
  } catch {
    return null; // storage is blocked: Chinese unless the address says otherwise
  }
}

function remember(language) {
  try {
    localStorage.setItem(storageKey, language);
  } catch {
    // blocked: the address carries the choice
  }
}

function chosen() {
  const asked = new URLSearchParams(location.search).get("lang");
  if (asked in texts) remember(asked);
  const language = asked in texts ? asked : remembered();
  return language in texts ? language : "zh";
}

export const language = chosen();
export const words = texts[language];

export const number = (value) => value.toLocaleString("en-US");

function format(options) {
  const locale = language === "zh" ? "zh-CN" : "en-GB";
  return (iso, timeZone) => new Intl.DateTimeFormat(locale, { ...options, timeZone, hourCycle: "h23" }).format(new Date(iso));
}

const twoDigits = "2-digit";
export const dayAndTime = format({ month: "short", day: "numeric", hour: twoDigits, minute: twoDigits });
export const timeOnly = format({ hour: twoDigits, minute: twoDigits, second: twoDigits });

export function left(ms) {
  const minutes = Math.max(1, Math.floor(ms / 60000));
  return words.left({ days: Math.floor(minutes / 1440), hours: Math.floor(minutes / 60), minutes });
}

/** Fills every [data-word] of the static page, and the document's language. */
export function translate() {
  document.documentElement.lang = language === "zh" ? "zh-CN" : "en";
  for (const element of document.querySelectorAll("[data-word]")) {
    element.textContent = words[element.dataset.word];
  }
}
