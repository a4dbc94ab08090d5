// What happened to each structure: words, figures, and the regions that were judged.

const FIGURES = [ // row of the table, its figure of the initial mask, of the refined one, digits
  ["volume, ml", "volume_initial_ml", "volume_refined_ml", 2],
  ["pieces", "pieces_initial", "pieces_refined", 0],
  ["holes", "holes_initial", "holes_refined", 0],
  ["predicted DSC, %", "predicted_dsc_initial", "predicted_dsc_refined", 1],
  ["predicted HD95, mm", "predicted_hd95_mm_initial", "predicted_hd95_mm_refined", 1],
  ["DSC, %", "dsc_initial", "dsc_refined", 1],
  ["NSD, %", "nsd_initial", "nsd_refined", 1],
  ["HD95, mm", "hd95_mm_initial", "hd95_mm_refined", 2],
  ["ASSD, mm", "assd_mm_initial", "assd_mm_refined", 2],
];

const STEPS = { // as in report.json → in words
  picct: "alignment", context: "the other structures", evidence: "reading the image", tim: "trust in the mask's surface",
  finetune: "fit", reconstruct: "new mask", correspondence: "places on the template",
};

function findingOf(structure, showPlace) {
  const box = element("article", { className: "finding" });
  box.append(element("h3", { textContent: structure.name }));
  const words = element("ul");
  for (const sentence of structure.words) words.append(element("li", { textContent: sentence }));
  box.append(words);
  const { figures } = structure;
  const rows = FIGURES.filter(([, before]) => before in figures).map(([name, before, after, digits]) =>
    [name, number(figures[before], digits), number(figures[after], digits)]);
  if (rows.length) box.append(tableOf(["", "initial", "refined"], rows));
  const further = Object.entries(structure.seconds).filter(([, s]) => s >= 0.05).map(([name, s]) => `${STEPS[name] || name} ${s.toFixed(1)} s`);
  if ("fit_within_2mm_percent" in figures) further.unshift(`${figures.fit_within_2mm_percent.toFixed(0)} % of the initial surface within 2 mm of the fit`);
  if ("second_reader_dice" in figures) further.unshift(`the image's two readers agree with a Dice of ${figures.second_reader_dice.toFixed(2)}`);
  if (further.length) box.append(element("p", { className: "seconds", textContent: `${further.join(", ")}.` }));
  if (structure.regions.length) box.append(regionsOf(structure, showPlace));
  return box;
}

function regionsOf({ regions, name }, showPlace) {
  const accepted = regions.filter((region) => region.accepted).length;
  const details = element("details", { open: regions.length <= 8 });
  details.append(element("summary", { textContent: `Regions judged: ${accepted} accepted, ${regions.length - accepted} refused` }));
  const order = [...regions].sort((a, b) => b.accepted - a.accepted || b.volume_mm3 - a.volume_mm3);
  const table = tableOf(["decision", "mm³", "reason", ""], order.map((region) => {
    const button = element("button", { className: "place", textContent: "show" });
    button.setAttribute("aria-label", `show this region of ${name}`);
    button.addEventListener("click", () => showPlace(region.centre_world));
    const verb = { add: ["added", "not added"], remove: ["removed", "not removed"] }[region.kind];
    const decision = element("span", { className: region.accepted ? "good" : "warn", textContent: verb[region.accepted ? 0 : 1] });
    return [decision, number(region.volume_mm3, 0), region.reason, button];
  }));
  for (const row of table.querySelectorAll("tbody tr")) row.children[2].className = "reason";
  table.tHead.rows[0].cells[2].className = "text";
  const box = element("div", { className: "table-box", tabIndex: 0 });
  box.append(table);
  details.append(box);
  hintOfScroll(box);
  return details;
}

function tableOf(heads, rows) {
  const table = element("table"), head = table.createTHead().insertRow(), body = table.createTBody();
  for (const text of heads) head.append(element("th", { textContent: text, scope: "col" }));
  for (const cells of rows) {
    const row = body.insertRow();
    for (const cell of cells) row.insertCell().append(cell);
  }
  return table;
}
