(function () {
  const data = JSON.parse(document.getElementById("gallery").textContent);
  const table = document.getElementById("ranking");
  const body = table.tBodies[0];
  const rows = Array.from(body.rows);
  const headers = Array.from(table.tHead.rows[0].cells);
  const detail = document.getElementById("detail");
  const bytes = Uint8Array.from(atob(data.transforms ? data.transforms.bytes : ""), function (c) { return c.charCodeAt(0); });

  // Values from users (names of images, settings) are inserted as text, never as markup.
  function element(name, attributes, children) {
    const svg = ["svg", "circle", "line", "text", "title"].includes(name);
    const made = svg ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
    for (const [key, value] of Object.entries(attributes || {})) made.setAttribute(key, value);
    for (const child of [].concat(children || [])) made.append(child);
    return made;
  }

  // Sorting ------------------------------------------------------------------------------------------------------
  makeSortable(table, ["rank", "channel"]);

  // Searching ----------------------------------------------------------------------------------------------------
  const tests = {
    ">": function (a, b) { return a > b; }, "<": function (a, b) { return a < b; },
    ">=": function (a, b) { return a >= b; }, "<=": function (a, b) { return a <= b; },
    "=": function (a, b) { return a === b; },
  };
  function matches(row, word) {
    const compared = /^(\w+)(>=|<=|>|<|=)(-?[\d.]+(?:e-?\d+)?)$/.exec(word);
    if (compared) {
      const index = headers.findIndex(function (header) { return header.dataset.key === compared[1]; });
      return index >= 0 && tests[compared[2]](cellValue(row, index), Number(compared[3]));
    }
    if (/^\d+$/.test(word)) return row.dataset.channel === word;
    return nameOf(row.dataset.place).toLowerCase().includes(word);
  }
  function nameOf(place) { return data.images[data.channels[place].image].name; }
  const count = document.getElementById("count");
  document.getElementById("search").addEventListener("input", function (event) {
    const words = event.target.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    let shown = 0;
    rows.forEach(function (row) {
      row.hidden = !words.every(function (word) { return matches(row, word); });
      shown += row.hidden ? 0 : 1;
    });
    count.textContent = words.length ? shown + " of " + rows.length + " channels" : rows.length + " channels";
  });

  // One channel --------------------------------------------------------------------------------------------------
  function map(place, extra) {
    const columns = data.maps.columns, rowsOfMaps = Math.ceil(data.maps.cells / columns);
    const x = columns > 1 ? (place % columns) / (columns - 1) * 100 : 0;
    const y = rowsOfMaps > 1 ? Math.floor(place / columns) / (rowsOfMaps - 1) * 100 : 0;
    return element("span", { class: "map " + (extra || ""), style: "background-position:" + x + "% " + y + "%" });
  }

  function picture(source, alt, extra) {
    const made = element("img", { src: source, alt: alt, class: extra || "" });
    made.addEventListener("load", function () { if (made.naturalWidth < 64) made.classList.add("small"); });
    return made;
  }

  function panel(place, index, title, response) {
    const t = data.transforms, width = 160, height = 110, pad = 8, foot = 26;
    const ends = t.ranges[place][index];
    const drawn = element("svg", {
      viewBox: "0 0 " + width + " " + height, role: "img", class: response ? "response" : "",
      "aria-label": title + ": from " + ends[0] + " to " + ends[1] + ", transformed to " + ends[2] + " to " + ends[3],
    });
    const middle = pad + (height - pad - foot) / 2;
    drawn.append(element("line", { class: "axis", x1: pad, x2: width - pad, y1: middle, y2: middle }));
    const start = ((place * (t.components + 1)) + index) * t.points * 2;
    for (let point = 0; point < t.points; point++) {
      const x = bytes[start + 2 * point], y = bytes[start + 2 * point + 1];
      drawn.append(element("circle", {
        cx: (pad + x / 255 * (width - 2 * pad)).toFixed(1), cy: (pad + (1 - y / 255) * (height - pad - foot)).toFixed(1), r: 1.6,
      }));
    }
    drawn.append(element("text", { x: width / 2, y: height - 4, "text-anchor": "middle" }, title));
    drawn.append(element("text", { class: "quiet", x: pad, y: height - 15 }, String(Number(ends[0].toPrecision(3)))));
    drawn.append(element("text", { class: "quiet", x: width - pad, y: height - 15, "text-anchor": "end" }, String(Number(ends[1].toPrecision(3)))));
    return drawn;
  }

  function choose(channel, focus) {
    const place = data.channels.findIndex(function (each) { return each.channel === channel; });
    const row = body.querySelector('tr[data-channel="' + channel + '"]');
    if (place < 0 || !row) return;
    document.querySelectorAll(".chosen").forEach(function (each) { each.classList.remove("chosen"); });
    row.classList.add("chosen");
    const circle = document.querySelector('#curve circle[data-channel="' + channel + '"]');
    circle.classList.add("chosen");
    circle.parentNode.append(circle);
    const about = data.channels[place], image = data.images[about.image];
    const before = element("button", { type: "button", "aria-label": "Previous channel" }, "↑");
    const after = element("button", { type: "button", "aria-label": "Next channel" }, "↓");
    before.addEventListener("click", function () { step(row, -1); });
    after.addEventListener("click", function () { step(row, 1); });
    const list = element("dl");
    headers.forEach(function (header, index) {
      if (!header.dataset.key || header.dataset.key === "channel") return;
      list.append(element("dt", {}, header.textContent), element("dd", {}, row.cells[index].textContent));
    });
    const parts = [
      element("h2", {}, ["Channel " + channel, element("span", {}, [before, " ", after])]),
      list,
      element("h3", {}, "Most activating image"),
      element("div", { class: "trio" }, [
        element("div", {}, picture(image.src, "Image " + image.name)),
        element("div", { role: "img", "aria-label": "Activation map" }, map(place)),
        element("div", { role: "img", "aria-label": "Map over the image" }, [picture(image.src, "", "under"), map(place, "over")]),
      ]),
      element("p", { class: "quiet" }, image.name + ": mean activation " + about.mean + ", map from " + about.low + " to " + about.high),
    ];
    const maximized = data.maximized.find(function (each) { return each.channel === channel; });
    if (maximized) {
      parts.push(
        element("h3", {}, "Activation maximisation"),
        element("div", { class: "maximized" }, [
          element("img", { src: maximized.src, alt: "Input found by activation maximisation" }),
          element("span", {}, "Input found by gradient ascent: mean activation " + maximized.reached + ", compared with " + maximized.real + " for the most activating image."),
        ]),
      );
    }
    const drawn = data.transforms ? data.transforms.channels.indexOf(channel) : -1;
    if (data.transforms) parts.push(element("h3", {}, "ACE transforms"));
    if (data.transforms && drawn < 0) parts.push(element("p", { class: "quiet" }, "Shown for the " + data.transforms.channels.length + " best channels only."));
    else if (data.transforms) {
      const panels = element("div", { class: "panels" });
      for (let index = 0; index < data.transforms.components; index++) panels.append(panel(drawn, index, "component " + (index + 1), false));
      panels.append(panel(drawn, data.transforms.components, "class score", true));
      parts.push(panels);
      if (data.transforms.left_out) parts.push(element("p", { class: "quiet" }, data.transforms.left_out + " more components are not shown."));
    }
    detail.replaceChildren.apply(detail, parts);
    if (focus) row.querySelector("th button").focus();
  }

  function step(row, by) {
    const shown = Array.from(body.rows).filter(function (each) { return !each.hidden; });
    const next = shown[shown.indexOf(row) + by];
    if (!next) return;
    choose(Number(next.dataset.channel), false);
    next.scrollIntoView({ block: "nearest" });
    detail.querySelectorAll("h2 button")[by < 0 ? 0 : 1].focus();
  }

  body.addEventListener("click", function (event) {
    const row = event.target.closest("tr");
    if (row) choose(Number(row.dataset.channel), false);
  });
  body.addEventListener("keydown", function (event) {
    const by = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    const shown = Array.from(body.rows).filter(function (each) { return !each.hidden; });
    const next = shown[shown.indexOf(event.target.closest("tr")) + by];
    if (next) choose(Number(next.dataset.channel), true);
  });
  document.getElementById("curve").addEventListener("click", function (event) {
    const circle = event.target.closest("circle");
    if (circle) {
      choose(Number(circle.dataset.channel), false);
      body.querySelector("tr.chosen").scrollIntoView({ block: "nearest" });
    }
  });
  if (rows.length) choose(Number(rows[0].dataset.channel), false);
})();
