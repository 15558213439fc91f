"use strict";
// The choice of the theme is not stored: MLflow shows the page in a sandbox in which access to localStorage throws.
(function () {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  let dark = window.matchMedia("(prefers-color-scheme: dark)").matches;
  function show() {
    button.textContent = dark ? "Light" : "Dark";
    button.setAttribute("aria-pressed", String(dark));
    button.setAttribute("aria-label", dark ? "Switch to light colours" : "Switch to dark colours");
  }
  button.addEventListener("click", function () {
    dark = !dark;
    root.dataset.theme = dark ? "dark" : "light";
    show();
  });
  show();
})();
