(function () {
  makeSortable(document.getElementById("layers"), ["position", "layer", "kind"]);
})();
