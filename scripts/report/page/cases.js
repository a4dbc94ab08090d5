// The table of cases, the worst first: sorted by a click on a column's head, opened by a click or the keyboard.

const volumeChange = (c) => {
  const [before, after] = ["initial", "refined"].map((stage) => sum(c, `volume_${stage}_ml`));
  return before ? 100 * (after / before - 1) : null;
};
const sum = (c, figure) => c.structures.reduce((total, s) => total + (s.figures[figure] || 0), 0);
const figuresOf = (c, figure) => c.structures.map((s) => s.figures[figure]).filter((v) => v !== undefined && v !== null);
const mean = (c, figure) => { const all = figuresOf(c, figure); return all.length ? all.reduce((a, b) => a + b) / all.length : null; };
const least = (c, figure) => { const all = figuresOf(c, figure); return all.length ? Math.min(...all) : null; };
const most = (c, figure) => { const all = figuresOf(c, figure); return all.length ? Math.max(...all) : null; };

const PREDICTED = "predicted DSC %";
const COLUMNS = [ // head, value to sort by, text (from the value), whether it is text
  ["case", (c) => c.name, (v) => v, true],
  ["status", (c) => c.status, (v) => v, true],
  ["quality", (c) => c.flags.length, null, true],
  [PREDICTED, (c) => least(c, "predicted_dsc_refined"), (v, c) => `${least(c, "predicted_dsc_initial").toFixed(0)} → ${v.toFixed(0)}`],
  ["refined", (c) => (c.structures.length ? c.structures.filter((s) => s.status === "refined").length : null),
    (v, c) => `${v} of ${c.structures.length}`],
  ["volume change", volumeChange, (v) => `${v >= 0 ? "+" : "−"}${Math.abs(v).toFixed(1)} %`],
  ["accepted", (c) => c.totals.accepted_ml, (v, c) => `${c.totals.accepted} (${v.toFixed(2)} ml)`],
  ["refused", (c) => c.totals.refused_ml, (v, c) => `${c.totals.refused} (${v.toFixed(2)} ml)`],
  ["moved mm", (c) => most(c, "moved_max_mm"), (v, c) => `${mean(c, "moved_mean_mm").toFixed(2)}, at most ${v.toFixed(1)}`],
  ["pieces", (c) => (most(c, "pieces_initial") === null ? null : sum(c, "pieces_initial") - sum(c, "pieces_refined")),
    (v, c) => `${sum(c, "pieces_initial")} → ${sum(c, "pieces_refined")}`],
  ["DSC %", (c) => mean(c, "dsc_refined"), (v, c) => `${mean(c, "dsc_initial").toFixed(1)} → ${v.toFixed(1)}`],
  ["HD95 mm", (c) => mean(c, "hd95_mm_refined"), (v, c) => `${mean(c, "hd95_mm_initial").toFixed(1)} → ${v.toFixed(1)}`],
  ["seconds", (c) => Object.values(c.seconds).reduce((a, b) => a + b, 0), (v) => v.toFixed(0)],
];

const EXPLAINED = {
  [PREDICTED]: "of the structure with the least, before and after; there is no truth behind it",
  refined: "structures refined",
  accepted: "regions in which mask and fit differ and the mask was changed",
  refused: "regions in which mask and fit differ and the mask was kept",
  "moved mm": "mean over structures, and the largest",
  pieces: "of all structures, before and after",
  "DSC %": "mean over structures, before and after",
  "HD95 mm": "mean over structures, before and after",
};

const PAGE_ROWS = 10; // that Page Up and Page Down go
const SEARCHED_FROM = 10; // cases, below which there is nothing to search

class CaseTable {
  // `order`: numbers of the cases, those that most need a look first.
  constructor(table, cases, order, open) {
    this.table = table;
    this.open = open;
    this.cases = order.map((n) => cases[n]);
    this.columns = COLUMNS.filter(([, value]) => cases.some((c) => value(c) !== null));
    const head = table.tHead.insertRow();
    this.columns.forEach(([name, , , isText], n) => {
      const cell = element("th", { scope: "col", className: isText ? "text" : "" });
      const button = element("button", { textContent: name, title: EXPLAINED[name] || "" });
      button.addEventListener("click", () => this.sort(n));
      cell.append(button);
      head.append(cell);
    });
    this.fill();
    this.reach(this.table.tBodies[0].rows[0]);
    const box = byId("find"), count = byId("found");
    box.parentElement.hidden = cases.length < SEARCHED_FROM;
    box.addEventListener("input", () => {
      const words = box.value.toLowerCase().split(/\s+/).filter(Boolean);
      for (const row of this.rows.values()) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
      const seen = this.seen();
      count.textContent = words.length ? `${seen.length} of ${cases.length} cases` : "";
      if (!seen.some((row) => row.tabIndex === 0)) this.reach(seen[0]);
    });
  }

  // The rows that the search leaves, in their order.
  seen() {
    return [...this.table.tBodies[0].rows].filter((row) => !row.hidden);
  }

  // Let the Tab key reach one row only; the arrow keys go from there.
  reach(row) {
    for (const other of this.table.tBodies[0].rows) other.tabIndex = other === row ? 0 : -1;
  }

  fill() {
    const body = this.table.tBodies[0];
    body.replaceChildren(...this.cases.map((c) => this.rows?.get(c) || this.buildRow(c)));
    this.rows = new Map(this.cases.map((c, n) => [c, body.rows[n]]));
  }

  buildRow(c) {
    const row = element("tr", { tabIndex: -1 });
    row.dataset.case = c.name;
    for (const [, value, text, isText] of this.columns) {
      const cell = element("td", { className: isText ? "text" : "" }), found = value(c);
      if (value === COLUMNS[0][1]) cell.append(...this.nameOf(c));
      else if (text) cell.textContent = found === null ? "–" : text(found, c);
      else cell.append(...(c.flags.length ? c.flags.map(([kind, words]) => chip(words, kind)) : [chip("nothing to note", "good")]));
      row.append(cell);
    }
    row.addEventListener("click", () => this.open(c));
    row.addEventListener("keydown", (event) => this.press(event, row, c));
    return row;
  }

  // A case's small picture and its name, which may run from right to left.
  nameOf(c) {
    const name = element("bdi", { textContent: c.name });
    return c.thumbnail ? [element("img", { src: c.thumbnail, alt: "", className: "small", loading: "lazy" }), name] : [name];
  }

  press(event, row, c) {
    if (event.key === "Enter" || event.key === " ") this.open(c);
    else {
      const rows = this.seen(), at = rows.indexOf(row), last = rows.length - 1;
      const to = { ArrowDown: at + 1, ArrowUp: at - 1, PageDown: at + PAGE_ROWS, PageUp: at - PAGE_ROWS, Home: 0, End: last }[event.key];
      if (to === undefined) return;
      const next = rows[Math.min(Math.max(to, 0), last)];
      this.reach(next);
      next.focus();
    }
    event.preventDefault();
  }

  sort(n) {
    const cell = this.table.tHead.rows[0].cells[n], down = cell.ariaSort === "ascending";
    for (const other of this.table.tHead.rows[0].cells) other.ariaSort = null;
    cell.ariaSort = down ? "descending" : "ascending";
    const value = this.columns[n][1];
    const order = (a, b) => (typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : (a ?? -Infinity) - (b ?? -Infinity));
    this.cases.sort((a, b) => (down ? -1 : 1) * order(value(a), value(b)));
    this.fill();
  }

  select(c) {
    for (const [other, row] of this.rows) row.ariaSelected = String(other === c);
    this.reach(this.rows.get(c));
  }
}
