// Headings become buttons that sort their column; without this script the tables are read as they stand.
"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const headings = [...table.tHead.rows[0].cells];
  if (body.rows.length < 2) continue;
  const keyOf = (row, place, numeric) => {
    const cell = row.cells[place];
    if (cell.textContent.trim() === "") return null;
    if (!numeric) return cell.textContent;
    const key = cell.dataset.key ?? "nan";
    return key === "inf" ? Infinity : key === "-inf" ? -Infinity : Number(key);
  };
  headings.forEach((heading, place) => {
    const numeric = heading.classList.contains("number");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = heading.textContent;
    heading.replaceChildren(button);
    button.addEventListener("click", () => {
      // Numbers start with the largest, texts and days with the first.
      const before = heading.getAttribute("aria-sort");
      const rising = before === null ? !numeric : before === "descending";
      headings.forEach((other) => other.removeAttribute("aria-sort"));
      heading.setAttribute("aria-sort", rising ? "ascending" : "descending");
      const keyed = [...body.rows].map((row) => [keyOf(row, place, numeric), row]);
      keyed.sort(([one], [two]) => {
        if (one === null || two === null) return (one === null) - (two === null);  // nothing stands last
        const order = numeric ? one - two : one.localeCompare(two, undefined, { numeric: true });
        return rising ? order : -order;
      });
      body.append(...keyed.map(([, row]) => row));
    });
  });
}
