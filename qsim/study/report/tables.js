// Tables that are sorted by a click on the head of a column.

/** Make an element with properties and children; texts are texts, never markup. */
function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children);
  return node;
}

/** Return a table in a box that scrolls: heads, and rows of texts or [text, value to sort by]. */
function makeTable(caption, heads, rows) {
  const head = make("tr", {}, ...heads.map((text) => make("th", { scope: "col" }, text)));
  const body = rows.map((row) => make("tr", {}, ...row.map((cell, column) => {
    const [text, value] = Array.isArray(cell) ? cell : [cell, undefined];
    const node = make(column ? "td" : "th", column ? {} : { scope: "row" }, text);
    if (value !== undefined && value !== null) node.dataset.value = value;
    return node;
  })));
  const table = make("table", {}, make("caption", {}, caption), make("thead", {}, head), make("tbody", {}, ...body));
  return inBox(table, caption);
}

/** Put a table into a box that can be scrolled with the keyboard too, and make its columns sort. */
function inBox(table, name) {
  const box = make("div", { className: "scroll", tabIndex: 0 });
  box.setAttribute("role", "region");
  box.setAttribute("aria-label", name);
  table.replaceWith(box);
  box.append(table);
  makeSortable(table);
  return box;
}

function makeSortable(table) {
  const heads = [...table.querySelectorAll("thead th")];
  heads.forEach((head, column) => {
    const button = make("button", { type: "button" }, ...head.childNodes);
    if (!button.textContent.trim()) button.append("name");
    head.replaceChildren(button);
    head.setAttribute("scope", "col");
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      heads.forEach((other) => other.setAttribute("aria-sort", "none"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      sortRows(table.tBodies[0], column, falling);
    });
  });
}

/** Sort rows by a column: by numbers if all its cells that say something begin with one, else as words. */
function sortRows(body, column, falling) {
  const rows = [...body.rows].map((row) => [row, textOf(row.cells[column])]);
  const numbers = rows.map(([, text]) => leadingNumber(text));
  const numeric = rows.every(([, text], i) => text === "" || text === "–" || !Number.isNaN(numbers[i]));
  const keyed = rows.map(([row, text], i) => [row, numeric ? numbers[i] : text]);
  const said = ([, key]) => key !== "" && !Number.isNaN(key);
  const compare = ([, a], [, b]) => (numeric ? a - b : a.localeCompare(b, undefined, { numeric: true }));
  const sorted = keyed.filter(said).sort(compare);
  if (falling) sorted.reverse();
  body.append(...[...sorted, ...keyed.filter((row) => !said(row))].map(([row]) => row)); // what says nothing comes last
}

function textOf(cell) {
  return cell?.dataset.value ?? cell?.textContent.trim() ?? "";
}

/** Return the number that a text begins with, NaN if it begins with none: 1,234.5 (1,200 to 1,260) is 1234.5. */
function leadingNumber(text) {
  const found = /^[-+−]?(\d[\d,]*\.?\d*|\.\d+)(e[-+]?\d+)?/i.exec(text);
  return found ? Number(found[0].replaceAll(",", "").replace("−", "-")) : NaN;
}
