/* Tables of class "sortable": click a heading to sort, type to search. Without scripts the page is complete as it is. */
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const rows = Array.from(body.rows, (row) => ({ row, text: row.textContent.toLowerCase() }));
  const headings = Array.from(table.tHead.rows[0].cells);
  const key = (row, column) => {
    const text = row.cells[column].textContent.trim();
    const number = Number.parseFloat(text.replace("\u2212", "-").replaceAll(",", ""));
    return headings[column].className === "number" ? (Number.isNaN(number) ? -Infinity : number) : text.toLowerCase();
  };
  headings.forEach((heading, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      const falling = heading.getAttribute("aria-sort") === "ascending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const compare = (a, b) => (a < b ? -1 : a > b ? 1 : 0);
      rows.sort((a, b) => (falling ? -1 : 1) * compare(key(a.row, column), key(b.row, column)));
      body.append(...rows.map((one) => one.row));
    });
  });
  const search = document.createElement("input");
  search.type = "search";
  search.placeholder = "search this table";
  search.setAttribute("aria-label", "search this table");
  const shown = document.createElement("output");
  search.addEventListener("input", () => {
    const wanted = search.value.trim().toLowerCase();
    let count = 0;
    for (const { row, text } of rows) {
      row.hidden = !text.includes(wanted);
      count += row.hidden ? 0 : 1;
    }
    shown.textContent = wanted ? `${count} of ${rows.length}` : "";
  });
  const tools = document.createElement("div");
  tools.className = "tools";
  tools.append(search, shown);
  table.parentElement.before(tools);
}
