"use strict";
document.documentElement.classList.add("scripted");

// The theme: that of the system until one is chosen.
(function () {
  const button = document.getElementById("theme");
  const names = ["system", "light", "dark"];
  let stored = null;
  try { stored = localStorage.getItem("onnx-merge-theme"); } catch (error) { /* a page without storage */ }
  let at = Math.max(0, names.indexOf(stored));
  function show() {
    if (at) document.documentElement.dataset.theme = names[at];
    else delete document.documentElement.dataset.theme;
    button.textContent = "Theme: " + names[at];
  }
  button.addEventListener("click", function () {
    at = (at + 1) % names.length;
    try { localStorage.setItem("onnx-merge-theme", names[at]); } catch (error) { /* it lasts until the page is closed */ }
    show();
  });
  show();
})();

// Tables that sort by a column.
(function () {
  const collator = new Intl.Collator("en", { numeric: true });
  function value(row, column) {
    const cell = row.cells[column];
    return cell.dataset.value === undefined ? cell.textContent.trim() : Number(cell.dataset.value);
  }
  function compare(a, b) {
    return typeof a === "number" && typeof b === "number" ? a - b : collator.compare(String(a), String(b));
  }
  function sort(table, header, column) {
    const numeric = header.classList.contains("n");
    const now = header.getAttribute("aria-sort");
    const direction = now ? (now === "ascending" ? "descending" : "ascending") : (numeric ? "descending" : "ascending");
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction);
    const sign = direction === "ascending" ? 1 : -1;
    const rows = Array.from(table.tBodies[0].rows);
    rows.sort(function (a, b) { return sign * compare(value(a, column), value(b, column)); });
    table.tBodies[0].append(...rows);
  }
  for (const table of document.querySelectorAll("table.sortable")) {
    Array.from(table.tHead.rows[0].cells).forEach(function (header, column) {
      if (header.dataset.sort === undefined) return;
      const button = document.createElement("button");
      button.type = "button";
      button.append(...header.childNodes);
      header.append(button);
      button.addEventListener("click", function () { sort(table, header, column); });
    });
  }
})();

// Rows that are shown: those with a chosen status whose text holds what is looked for.
(function () {
  for (const form of document.querySelectorAll("form.filters")) {
    const rows = Array.from(document.getElementById(form.dataset.for).tBodies[0].rows);
    const texts = new Map(rows.map(function (row) { return [row, row.textContent.toLowerCase()]; }));
    const output = form.querySelector("output");
    const whole = output.textContent;
    function show() {
      const text = form.elements.text.value.trim().toLowerCase();
      const chosen = new Set();
      for (const box of form.querySelectorAll("input[name=status]:checked")) chosen.add(box.value);
      let count = 0;
      for (const row of rows) {
        row.hidden = !(chosen.has(row.dataset.status) && texts.get(row).includes(text));
        if (!row.hidden) count += 1;
      }
      output.textContent = count === rows.length ? whole : count + " of " + whole;
    }
    form.addEventListener("input", show);
    form.addEventListener("submit", function (event) { event.preventDefault(); });
    // A link to a row that is not shown shows all rows.
    window.addEventListener("hashchange", function () {
      const target = document.getElementById(location.hash.slice(1));
      if (target && rows.includes(target) && target.hidden) { form.reset(); show(); target.scrollIntoView(); }
    });
  }
})();
