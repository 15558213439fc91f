(function () {
  makeSortable(document.getElementById("layers"), ["position", "layer", "kind"]);
  // The page in MLflow contains the reports of the layers, compressed, by their addresses; they are shown in a frame.
  const data = document.getElementById("reports");
  if (!data || typeof DecompressionStream !== "function") return;
  const reports = JSON.parse(data.textContent);
  const opened = document.getElementById("opened"), frame = opened.querySelector("iframe"), back = opened.querySelector("button");
  const others = document.querySelectorAll("body > header, body > main, body > footer");
  let origin = null, height = 0;
  function show(isOpened) {
    opened.hidden = !isOpened;
    others.forEach(function (element) { element.hidden = isOpened; });
  }
  async function decompressed(text) {
    const bytes = Uint8Array.from(atob(text), function (character) { return character.charCodeAt(0); });
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    return new Response(stream).text();
  }
  document.querySelectorAll("a[href]").forEach(function (link) {
    const report = reports[link.getAttribute("href")];
    if (report === undefined) return;
    link.addEventListener("click", async function (event) {
      event.preventDefault();
      const theme = document.documentElement.dataset.theme, page = await decompressed(report);
      origin = link;
      height = window.scrollY;
      frame.title = "Report of " + link.textContent;
      frame.srcdoc = theme ? page.replace("<html ", '<html data-theme="' + theme + '" ') : page;
      show(true);
      window.scrollTo(0, 0);
      back.focus();
    });
  });
  back.addEventListener("click", function () {
    show(false);
    frame.removeAttribute("srcdoc");
    window.scrollTo(0, height);
    origin.focus();
  });
})();
