// @ts-check
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

const web = new URL("../../services/results_api/web/", import.meta.url);
const programs = new Set(["button/like-button.js", "page/start.js"]); // what the two script tags of a page name
const modules = readdirSync(web, { recursive: true, encoding: "utf8" }).filter((path) => path.endsWith(".js"));

// A module that asked, read or changed anything of a browser while it is imported would fail here.
for (const name of ["document", "localStorage", "location", "navigator", "customElements", "fetch", "setTimeout", "setInterval"]) {
  Object.defineProperty(globalThis, name, { get: () => assert.fail(`${name} is used at import`) });
}
Object.assign(globalThis, { HTMLElement: class {} });

for (const path of modules.filter((each) => !programs.has(each))) {
  test(`importing ${path} does nothing`, () => import(new URL(path, web).href));
}

/**
 * @param {string} path
 * @param {RegExp} name
 */
const namesIn = (path, name) => Array.from(readFileSync(new URL(path, web), "utf8").matchAll(name), ([, found]) => found).sort();

/** @param {string[]} folders */
const modulesOf = (...folders) => modules.filter((path) => folders.includes(path.split("/")[0]) && !programs.has(path)).sort();

test("the page asks for its modules at once, not one after another", () => {
  const asked = namesIn("page/index.html", /rel="modulepreload" href="\/web\/(.+)"/g);
  assert.deepEqual(asked, modulesOf("page", "shared"));
});

test("so does the button", () => {
  const asked = namesIn("button/like-button.js", /"((?:button|shared)\/[\w-]+)"/g).map((name) => `${name}.js`);
  assert.deepEqual(asked, modulesOf("button", "shared"));
});
