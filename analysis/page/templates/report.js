"use strict";
(() => {
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];

  // The sort key of a cell: its first number; then times with only a lower bound, then misses, then empty cells.
  const key = (cell) => {
    const text = cell.textContent.trim();
    if (text === "–" || text === "") return Number.POSITIVE_INFINITY;
    if (text === "> budget") return Number.MAX_VALUE;
    const share = text.match(/^(\d+)\/(\d+)$/);
    if (share) return Number(share[1]) / Number(share[2]);
    if (text.startsWith("∞")) return 1e199;
    const number = text.replace(/,/g, "").match(/-?\d+(\.\d+)?(e[+-]?\d+)?/i);
    if (!number) return Number.MAX_VALUE;
    return text.startsWith("> ") ? 1e200 * (1 + Number(number[0]) / 1e9) : Number(number[0]);
  };

  const sort = (header) => {
    const table = header.closest("table");
    const column = header.cellIndex;
    const isDown = header.getAttribute("aria-sort") === "ascending";
    const isNumber = header.classList.contains("number");
    const rows = all("tbody > tr", table).map((row) => ({ row, cell: row.cells[column] }));
    for (const each of rows) each.key = isNumber ? key(each.cell) : each.cell.textContent.trim();
    rows.sort((a, b) => (isNumber ? a.key - b.key : a.key.localeCompare(b.key, undefined, { numeric: true })));
    if (isDown) rows.reverse();
    for (const other of all("th", table)) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", isDown ? "descending" : "ascending");
    table.tBodies[0].append(...rows.map(({ row }) => row));
  };

  for (const header of all("th")) {
    header.tabIndex = 0;
    header.setAttribute("role", "columnheader");
    header.addEventListener("click", () => sort(header));
    header.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      sort(header);
    });
  }

  // Pointing at a configuration highlights it in all tables and figures.
  const names = JSON.parse(document.getElementById("configurations").textContent);
  const places = new Map();
  for (const place of all("[data-config]")) {
    const id = place.dataset.config;
    if (!places.has(id)) places.set(id, []);
    places.get(id).push(place);
    if (place instanceof SVGElement) {
      const title = document.createElementNS("http://www.w3.org/2000/svg", "title");
      title.textContent = names[id] || id;
      place.prepend(title);
    }
  }
  let pinned = "";
  const mark = (id, isOn) => {
    for (const place of places.get(id) || []) place.classList.toggle("hot", isOn);
  };
  const configuration = (event) => event.target.closest?.("[data-config]")?.dataset.config || "";
  document.addEventListener("mouseover", (event) => mark(configuration(event), true));
  document.addEventListener("mouseout", (event) => {
    const id = configuration(event);
    if (id !== pinned) mark(id, false);
  });
  document.addEventListener("click", (event) => {
    const id = configuration(event);
    if (!id) return;
    mark(pinned, false);
    pinned = pinned === id ? "" : id;
    mark(pinned, true);
  });
})();
