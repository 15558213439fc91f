// Tables that are sorted by clicking on the headings of their columns. Rows have the attribute data-place, their first order.
function cellValue(row, index) {
  const cell = row.cells[index];
  const text = cell.dataset.value === undefined ? cell.textContent.trim() : cell.dataset.value;
  return text === "" ? NaN : Number(text);
}

// Columns whose key is in `ascendingFirst` are sorted in ascending order by the first click, the others in descending order.
function makeSortable(table, ascendingFirst) {
  const headers = Array.from(table.tHead.rows[0].cells);
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  headers.forEach(function (header, index) {
    const button = header.querySelector("button");
    if (!button) return;
    button.addEventListener("click", function () {
      const first = ascendingFirst.includes(header.dataset.key) ? "ascending" : "descending";
      const now = header.getAttribute("aria-sort");
      const next = now === null ? first : now === "ascending" ? "descending" : "ascending";
      headers.forEach(function (other) { other.removeAttribute("aria-sort"); });
      header.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      rows.sort(function (a, b) {
        const x = cellValue(a, index), y = cellValue(b, index);
        if (Number.isNaN(x) || Number.isNaN(y)) return Number.isNaN(x) - Number.isNaN(y);
        return sign * (x - y) || Number(a.dataset.place) - Number(b.dataset.place);
      });
      body.append.apply(body, rows);
    });
  });
}
