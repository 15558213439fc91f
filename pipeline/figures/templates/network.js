(function () {
  makeSortable(document.getElementById("layers"), ["position", "layer", "kind"]);
  // MLflow shows the page without its folder, so that relative links have no target there.
  if (!["file:", "http:", "https:"].includes(window.location.protocol) || window.location.origin === "null" && window.location.protocol !== "file:") {
    document.getElementById("links-note").textContent =
      "Links to the reports of the layers do not work inside MLflow: open layers/LAYER/report.html among the artifacts, or the page from its folder.";
    document.querySelectorAll('a[href^="layers/"]').forEach(function (link) { link.removeAttribute("href"); });
  }
})();
