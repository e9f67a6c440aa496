// What every page may do beyond showing itself: sort and search its tables, be embedded, be live.
import { live } from "./live.js";
import { integer } from "./words.js";

const number = (cell) => {
  const given = cell.dataset.v ?? cell.textContent.replace(/[^0-9.-]/g, "");
  return given === "" ? NaN : Number(given);
};

// Text where any cell of the column is none of digits.
function valueOf(rows, column) {
  const numeric = rows.every((row) => !Number.isNaN(number(row.cells[column])) && row.cells[column].className.includes("n"));
  return numeric ? (row) => number(row.cells[column]) : (row) => row.cells[column].textContent.trim().toLowerCase();
}

// Rows that a page shows before somebody asks for all of them (weir.css hides the others): to lay a
// thousand out takes longer than anything else on the page.
const FIRST = 100;

function shortened(table) {
  const rows = table.tBodies[0].rows.length;
  if (rows <= FIRST) return;
  const button = document.createElement("button");
  button.type = "button";
  button.className = "rest";
  button.textContent = `Show all ${integer(rows)}`;
  button.addEventListener("click", () => {
    table.dataset.all = "";
    button.remove();
  });
  table.closest(".scroll").after(button);
}

function sort(table, column, descending) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const value = valueOf(rows, column);
  const compare = (a, b) => (typeof a === "string" ? a.localeCompare(b) : a - b);
  rows.sort((a, b) => compare(value(a), value(b)) * (descending ? -1 : 1));
  body.append(...rows);
  for (const head of table.tHead.rows[0].cells) head.removeAttribute("aria-sort");
  table.tHead.rows[0].cells[column].setAttribute("aria-sort", descending ? "descending" : "ascending");
}

function sortable(table) {
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    const first = head.classList.contains("n") ? "descending" : "ascending";
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      sort(table, column, now ? now === "ascending" : first === "descending");
    });
  });
}

function searchable(table) {
  const noun = table.dataset.noun;
  const label = document.createElement("label");
  const input = document.createElement("input");
  const said = document.createElement("span");
  input.type = "search";
  input.autocomplete = "off";
  said.className = "soft";
  said.setAttribute("role", "status");
  label.className = "search";
  label.append(`Search ${noun} `, input);
  const bar = document.createElement("div");
  bar.className = "bar-of";
  bar.append(label, said);
  table.closest(".scroll").before(bar);
  input.addEventListener("input", () => {
    const wanted = input.value.trim().toLowerCase();
    table.toggleAttribute("data-found", wanted !== "");
    let shown = 0;
    for (const row of table.tBodies[0].rows) {
      row.hidden = !row.textContent.toLowerCase().includes(wanted);
      shown += row.hidden ? 0 : 1;
    }
    said.textContent = wanted ? `${shown} of ${table.tBodies[0].rows.length}` : "";
  });
}

// Within another page: its theme, without our head, and as high as we are.
function embedded() {
  const asked = new URLSearchParams(location.search);
  const theme = asked.get("theme");
  const root = document.documentElement;
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  if (!asked.has("embed") || window.parent === window) return;
  root.dataset.embed = "";
  for (const link of document.querySelectorAll("nav a")) link.search = location.search;
  const tell = () => window.parent.postMessage({ weir: "height", height: root.scrollHeight }, "*");
  new ResizeObserver(tell).observe(document.body);
  tell();
}

embedded();
for (const table of document.querySelectorAll("table[data-sortable]")) {
  sortable(table);
  shortened(table);
  if (table.dataset.noun) searchable(table);
}
for (const section of document.querySelectorAll("[data-live]")) live(section);
for (const button of document.querySelectorAll("button[data-print]")) {
  button.hidden = false;
  button.addEventListener("click", () => window.print());
}
