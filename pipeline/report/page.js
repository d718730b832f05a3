/* What a reader can do on the page: sort its tables, open the cells of grids, and see what drawings.js draws. */

/* A click on a column's head sorts the table, a second one turns the order round. */
function sortable(table) {
  for (const head of table.querySelectorAll("thead th[data-column]")) {
    const button = html("button", { type: "button", class: "sort" });
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const first = head.dataset.first ?? "ascending";
      const other = first === "ascending" ? "descending" : "ascending";
      const direction = head.getAttribute("aria-sort") === first ? other : first;
      for (const any of table.querySelectorAll("th[aria-sort]")) any.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", direction);
      sort(table.tBodies[0], Number(head.dataset.column), head.classList.contains("number"), direction);
    });
  }
}

/* Rows in order of one column, those without a value last; equal ones stay as they were. */
function sort(body, column, numeric, direction) {
  const sign = direction === "ascending" ? 1 : -1;
  const keyed = [...body.rows].map((row) => {
    const field = row.cells[column], told = field.dataset.value ?? field.textContent.trim();
    return { row, key: numeric ? Number.parseFloat(told.replaceAll(",", "")) : told };
  });
  const absent = ({ key }) => Number.isNaN(key) || key === "" || key === "–";
  keyed.sort((one, other) => {
    if (absent(one) || absent(other)) return absent(one) - absent(other);
    const order = numeric ? one.key - other.key : one.key.localeCompare(other.key, "en", { numeric: true });
    return sign * order;
  });
  body.append(...keyed.map(({ row }) => row));
}

const panel = document.getElementById("panel");
let known = null; // what is to be drawn, read when the first of it is asked for

function data() {
  known ??= JSON.parse(document.getElementById("drawings").textContent);
  return known;
}

/* Draws what an experiment predicted and how it was trained, in the place that the page has for it. */
function draw(place) {
  const figures = drawn(data().experiments[place.dataset.drawn], data());
  const tags = place.querySelector("template").content;
  for (const figure of figures) figure.querySelector("figcaption").append(" ", tags.cloneNode(true));
  place.replaceChildren(...figures);
}

/* The address of a cell's details. */
function address(name) {
  return "#cell=" + encodeURIComponent(name).replaceAll("%2F", "/").replaceAll("%2B", "+");
}

/* Opens or closes the panel, as the page's address says. */
function follow() {
  let name = "";
  try {
    if (location.hash.startsWith("#cell=")) name = decodeURIComponent(location.hash.slice("#cell=".length));
  } catch {
    return; // a mistyped address leads nowhere
  }
  if (name) show(name);
  else panel.close();
}

function show(name) {
  const cells = data().cells, cell = Object.hasOwn(cells, name) ? cells[name] : null;
  document.getElementById("panel-name").textContent = name;
  const about = cell ? [cell.setup, cell.views, cell.corpora, ...cell.facts] : ["this report has no such cell"];
  document.getElementById("panel-about").textContent = about.filter(Boolean).join(" · ");
  // What its numbers are worth is said beside the table that has it.
  const tags = document.querySelector(`[data-cell="${CSS.escape(name)}"]`)?.closest("table").querySelector(".tags");
  document.getElementById("panel-tags").replaceChildren(...(tags ? [tags.cloneNode(true)] : []));
  document.getElementById("panel-content").replaceChildren(...(cell ? content(cell) : []));
  if (!panel.open) panel.showModal();
  panel.scrollTop = 0;
}

function content(cell) {
  const notes = cell.notes.map((note) => html("p", { class: "note" }, note));
  return [scoreTable(cell.scores), ...notes, html("div", { class: "figures" }, ...drawn(cell, data()))];
}

function scoreTable(rows) {
  const titles = ["task", "utterances", "metric", "mean ± SD", "chance", "each fold"];
  const numeric = (i) => ([1, 3, 4].includes(i) ? "number" : "");
  const head = titles.map((title, i) => html("th", { scope: "col", class: numeric(i), "data-column": i }, title));
  const body = rows.map((row) => html("tr", {}, ...row.map((told, i) =>
    html(i ? "td" : "th", i ? { class: numeric(i) } : { scope: "row" }, told))));
  const table = html("table", {}, html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...body));
  sortable(table);
  return html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "All metrics" }, table);
}

for (const table of document.querySelectorAll("main table")) sortable(table);

/* What is folded away is drawn when it is opened: there may be many experiments of many points. */
for (const place of document.querySelectorAll("[data-drawn]")) {
  const folded = place.closest("details:not([open])");
  if (folded) folded.addEventListener("toggle", () => draw(place), { once: true });
  else draw(place);
}

if (panel) {
  for (const field of document.querySelectorAll("[data-cell]")) {
    const link = html("a", { href: address(field.dataset.cell) });
    link.append(...field.childNodes);
    field.append(link);
  }
  panel.addEventListener("click", (event) => event.target === panel && panel.close()); // beside it
  document.getElementById("panel-close").addEventListener("click", () => panel.close());
  panel.addEventListener("close", () => {
    if (location.hash.startsWith("#cell=")) history.replaceState(null, "", location.pathname + location.search);
  });
  addEventListener("hashchange", follow);
  if (location.hash.startsWith("#cell=")) follow();
}
