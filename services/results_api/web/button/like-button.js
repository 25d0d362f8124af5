// @ts-check
/** Owns the one script tag of the like button: it starts the button's modules, all at once instead of one after another. */
(() => {
  "use strict";
  const script = document.currentScript || document.querySelector('script[src*="like-button.js"]');
  // The file is served at /like-button.js and at /web/like-button.js; both lead to the same modules.
  const { src } = /** @type {HTMLScriptElement} */ (script);
  const web = src.replace(/(web\/)?like-button\.js([?#].*)?$/, "web/");
  const names = ["shared/requests", "shared/words", "button/sayings", "button/tally", "button/voter", "button/like-element"];
  for (const name of names) {
    import(`${web}${name}.js`).then(
      (module) => module.define?.(),
      (error) => console.error(`dianzan: ${name}.js did not load`, error),
    );
  }
})();
