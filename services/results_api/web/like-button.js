/** Owns the one script tag of the like button: it starts the button's modules, all at once instead of one after another. */
(() => {
  "use strict";
  const script = document.currentScript || document.querySelector('script[src*="like-button.js"]');
  // The file is served at /like-button.js and at /web/like-button.js; both lead to the same modules.
  const web = script.src.replace(/(web\/)?like-button\.js([?#].*)?$/, "web/");
  for (const name of ["requests", "tally", "voter", "like-element"]) {
    import(`${web}${name}.js`).catch((error) => console.error(`dianzan: ${name}.js did not load`, error));
  }
})();
