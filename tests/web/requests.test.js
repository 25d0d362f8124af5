// @ts-check
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { ask, askUntilAnswered, limits, pauseMs, Refusal } from "../../services/results_api/web/shared/requests.js";

const busy = () => new Response('{"code": "overloaded"}', { status: 503, headers: { "Retry-After": "1" } });
const unauthorized = () => new Response('{"code": "token_invalid"}', { status: 401 });

/** @type {(() => Response)[]} */
let answers = [];

beforeEach(() => {
  mock.method(globalThis, "fetch", async () => {
    const answer = answers.length > 1 ? answers.shift() : answers[0];
    if (!answer) throw new TypeError("no network");
    return answer();
  });
  // A pause passes at once, so that the tests need no time.
  mock.method(globalThis, "setTimeout", (/** @type {() => void} */ resume, /** @type {number} */ ms) => {
    if (ms < limits.requestMsMax) queueMicrotask(resume);
    return 0;
  });
});

afterEach(() => mock.restoreAll());

/** @param {Promise<unknown>} asking */
const refusalOf = async (asking) => {
  const refusal = await asking.then(() => null, (error) => error);
  assert(refusal instanceof Refusal);
  return refusal;
};

test("a pause doubles from half a second up to 15 s, or is as long as the server asks for, up to 90 s", () => {
  const pauses = /** @type {const} */ ([
    [0, 0, 500],
    [1, 0, 1000],
    [3, 0, 4000],
    [0, 3000, 3000],
    [3, 3000, 4000],
    [9, 0, 15000],
    [0, 60000, 60000],
    [4, 3600000, 90000],
  ]);
  for (const [attempt, askedMs, ms] of pauses) {
    assert.equal(pauseMs(attempt, askedMs, 0), ms);
    assert.equal(pauseMs(attempt, askedMs, 1), ms * 1.5, "the jitter only adds");
  }
});

test("asking again helps after no answer, 429 and 5xx, and after nothing else", () => {
  const unknown = [0, 200, 400, 401, 403, 404, 409, 422, 429, 500, 503].filter((status) => new Refusal("x", status).unknown);
  assert.deepEqual(unknown, [0, 429, 500, 503]);
});

test("a refusal has the code of the problem document and the wait that was asked for", async () => {
  answers = [busy];
  const { code, status, waitMs, unknown } = await refusalOf(ask("http://api/"));
  assert.deepEqual({ code, status, waitMs, unknown }, { code: "overloaded", status: 503, waitMs: 1000, unknown: true });
});

test("a proxy's page in place of an answer, and no network, are no answers", async () => {
  answers = [() => new Response("<h1>Welcome to the hotel</h1>")];
  const page = await refusalOf(ask("http://api/"));
  assert.deepEqual([page.code, page.unknown], ["unreadable", true]);

  answers = [];
  const nothing = await refusalOf(ask("http://api/"));
  assert.deepEqual([nothing.code, nothing.unknown], ["unreachable", true]);
});

test("a request is sent again until it is answered, and says that it was", async () => {
  answers = [busy, busy, () => new Response('{"remaining": 3}')];
  const onRetry = mock.fn();
  assert.deepEqual(await askUntilAnswered("http://api/", {}, onRetry), { body: { remaining: 3 }, retried: true });
  assert.equal(onRetry.mock.callCount(), 2);
});

test("a request is sent five times at most", async () => {
  answers = [busy];
  const onRetry = mock.fn();
  assert.equal((await refusalOf(askUntilAnswered("http://api/", {}, onRetry))).code, "overloaded");
  assert.equal(onRetry.mock.callCount(), limits.retriesMax);
});

test("what the server has decided is not asked again", async () => {
  answers = [unauthorized];
  const onRetry = mock.fn();
  assert.equal((await refusalOf(askUntilAnswered("http://api/", {}, onRetry))).status, 401);
  assert.equal(onRetry.mock.callCount(), 0);
});
