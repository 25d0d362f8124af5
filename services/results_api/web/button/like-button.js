// @ts-check
/** Owns the one script tag of the like button: it starts the button's modules, all at once instead of one after another. */
(() => {
  "use strict";
  const script = /** @type {HTMLScriptElement | null} */ (document.currentScript); // none where a module imports it
  // The tag's own address, whatever the file is called there: it is served at /like-button.js and at /web/like-button.js,
  // and both lead to the same modules. A browser resolves "./" by the page instead, for another site's script.
  const web = script ? script.src.split(/[?#]/)[0].replace(/(web\/)?[^/]*$/, "web/") : "./web/";
  const names = ["shared/phase", "shared/requests", "shared/words", "button/sayings", "button/tally", "button/voter", "button/like-element"];
  for (const name of names) {
    import(`${web}${name}.js`).then(
      (module) => module.define?.(),
      (error) => console.error(`dianzan: ${name}.js did not load; like-button.js must come from the results API, not from a copy`, error),
    );
  }
})();
