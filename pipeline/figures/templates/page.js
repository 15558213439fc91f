"use strict";
// The choice of the theme is not stored: MLflow shows the page in a sandbox in which access to localStorage throws.
(function () {
  const button = document.getElementById("theme");
  const root = document.documentElement;
  let dark = root.dataset.theme ? root.dataset.theme === "dark" : window.matchMedia("(prefers-color-scheme: dark)").matches;
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
  // MLflow shows the page without its folder, so that links to other pages have no target there, unless the page contains them.
  const alone = window.location.origin === "null" && window.location.protocol !== "file:";
  const contained = document.getElementById("reports") && typeof DecompressionStream === "function";
  document.querySelectorAll("a[href]").forEach(function (link) {
    if (alone && !contained && !link.getAttribute("href").startsWith("#")) {
      link.removeAttribute("href");
      document.querySelectorAll(".without-links").forEach(function (note) { note.hidden = false; });
      document.querySelectorAll("nav").forEach(function (nav) { nav.hidden = true; });
    }
  });
})();
