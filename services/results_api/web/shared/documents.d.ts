/** Owns the types of what both APIs answer; `make format` writes it from their OpenAPI documents. */

/** All published campaigns, oldest first. */
export interface CampaignList {
  campaigns: Array<CampaignSummary>;
}

/** The public rules and state of a campaign. */
export interface CampaignSummary {
  id: string;
  title: string;
  opens: string;
  closes: string;
  timezone: string;
  window: "campaign" | "day";
  likes_per_window: number;
  voter_classes: Array<string>;
  results: "hidden" | "live";
  publishers: Array<string>;
  title_en: string;
  brand: string;
  brand_en: string;
  introduction: string;
  how_to_like: string;
  organiser: string;
  contact: string;
  icp_number: string;
  privacy: string;
  state: "published" | "closed" | "sealed";
  candidates: number;
  version: number;
}

/** One candidate with its story; the numbers are the candidate's own. */
export interface CandidateResult {
  campaign: string;
  rank: number | null;
  code: string;
  name: string;
  pinyin: string;
  kind: "person" | "team";
  district: string;
  category: string;
  summary: string;
  story: string;
  photo: string;
  likes: number | null;
  people: number | null;
  people_estimated: boolean;
  sealed: boolean;
  version: number;
  as_of: string;
}

/** Likes of one day of the campaign's time zone. */
export interface Day {
  day: string;
  likes: number;
}

/** Likes of one hour of the campaign's time zone. */
export interface Hour {
  hour: string;
  likes: number;
}

/** One result a candidate, the likes this voter has left in the window, and when the window ends. */
export interface LikeAnswer {
  results: Array<LikeResult>;
  remaining: number;
  resets_at: string | null;
}

/** 1 to the campaign's quota of candidates, by code; the token only where no Authorization header is sent. */
export interface LikeRequest {
  candidates: Array<string>;
  token?: string | null;
}

/** What became of one like. The receipt is the same for every retry; absent where nothing is liked. */
export interface LikeResult {
  candidate: string;
  status: "counted" | "already_liked" | "over_quota" | "unknown_candidate";
  receipt?: string;
}

/** One like of this voter in this window. */
export interface MyLike {
  candidate: string;
  receipt: string;
}

/** What this voter has liked in this window. */
export interface MyLikes {
  likes: Array<MyLike>;
  remaining: number;
  resets_at: string | null;
}

/** One candidate; rank, likes and people are null while results are hidden. `pinyin` is what a search takes too. */
export interface ResultRow {
  rank: number | null;
  code: string;
  name: string;
  pinyin: string;
  kind: "person" | "team";
  district: string;
  category: string;
  summary: string;
  photo: string;
  likes: number | null;
  people: number | null;
}

/** All candidates by rank; by code while results are hidden. The totals are of the whole campaign. */
export interface Results {
  campaign: string;
  state: "published" | "closed" | "sealed";
  opens: string;
  closes: string;
  results: Array<ResultRow>;
  likes: number | null;
  people: number | null;
  people_estimated: boolean;
  sealed: boolean;
  version: number;
  as_of: string;
}

/** The data of a server-sent event: standings by candidate's code, none while results are hidden, and totals. */
export interface ResultsEvent {
  counts: Record<string, Standing>;
  likes: number | null;
  people: number | null;
  people_estimated: boolean;
  sealed: boolean;
  version: number;
  as_of: string;
}

/** A candidate's numbers in an event: [rank, likes, people]. */
export type Standing = [number | null, number | null, number | null];

/** The tally; final once `sealed` is true. `digest`: SHA-256 of all that was sealed, as `dianzan recount` has it. */
export interface TallyDocument {
  campaign: string;
  tally: Array<TallyRow>;
  digest: string | null;
  likes: number | null;
  people: number | null;
  people_estimated: boolean;
  sealed: boolean;
  version: number;
  as_of: string;
}

/** One line of the tally. */
export interface TallyRow {
  rank: number | null;
  code: string;
  name: string;
  likes: number | null;
  people: number | null;
}

/** Likes per hour and day; those without likes are left out; null while results are hidden. */
export interface Timeline {
  campaign: string;
  timezone: string;
  hours: Array<Hour> | null;
  days: Array<Day> | null;
}

/** A bearer token for one voter in one campaign; keep it, and renew it, since a new one is a new voter. */
export interface VoterAnswer {
  token: string;
  class: "device" | "verified";
  expires_at: string;
  publisher: string | null;
}

/** Which media site asks; absent or unknown means the campaign's own page. `token`: one to renew, for its voter. */
export interface VoterRequest {
  publisher?: string | null;
  token?: string | null;
}
