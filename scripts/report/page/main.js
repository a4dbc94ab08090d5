// The page: the table of cases, and the case that is open.

const run = JSON.parse(document.getElementById("run").textContent);
const byId = (id) => document.getElementById(id);
let current = null; // the case shown: { record, slices, surfaces }

function element(name, properties = {}) {
  return Object.assign(document.createElement(name), properties);
}

function chip(text, kind) {
  return element("span", { className: `chip ${kind}`, textContent: text });
}

function number(value, digits) {
  return value === null || value === undefined ? "–" : value.toFixed(digits);
}

function definitions(list, entries) {
  list.replaceChildren(...entries.flatMap(([key, text]) =>
    [element("dt", { textContent: key }), element("dd", { textContent: text })]));
}

// Say under a box that it scrolls sideways, for as long as something lies hidden beyond its end.
function hintOfScroll(box) {
  const hint = element("p", { className: "scroll-hint", textContent: "more columns: scroll sideways", hidden: true });
  box.after(hint);
  const look = () => {
    const hidden = box.scrollWidth - box.clientWidth - Math.abs(box.scrollLeft) > 4; // negative from right to left
    hint.hidden = !hidden;
    box.classList.toggle("more", hidden);
  };
  box.addEventListener("scroll", look);
  new ResizeObserver(look).observe(box);
  new ResizeObserver(look).observe(box.firstElementChild);
}

function checkbox(id, text, checked, change, colour) {
  const label = element("label"), box = element("input", { type: "checkbox", id, checked });
  box.addEventListener("change", () => change(box.checked));
  const swatch = colour && element("span", { className: "swatch" });
  if (swatch) swatch.style.background = colour;
  label.append(box, ...(swatch ? [swatch] : []), text);
  return label;
}

async function openCase(record) {
  if (current?.record === record) return;
  current?.surfaces?.close();
  current = { record };
  table.select(record);
  history.replaceState(null, "", `#case=${encodeURIComponent(record.name)}`);
  byId("case").hidden = false;
  byId("case-name").textContent = record.name;
  byId("case-status").textContent = record.status;
  const tone = { refined: "good", unchanged: "good", segmented: "good", kept: "warn", failed: "bad" }[record.status] || "note";
  byId("case-status").className = `chip ${record.flags.some(([kind]) => kind === "bad") ? "bad" : tone}`;
  const notes = [record.reason, ...record.warnings, ...record.notes].filter(Boolean);
  byId("case-notes").replaceChildren(...notes.map((textContent) => element("li", { textContent })));
  const shown = record.structures.filter((s) => s.words.length || s.regions.length);
  byId("findings").replaceChildren(...shown.map((s) => findingOf(s, showPlace)));
  const payload = byId(`payload-${record.number}`);
  byId("views").hidden = byId("structures").hidden = !payload;
  byId("slices").replaceChildren();
  document.body.dataset.shown = "";
  if (payload) await showPictures(record, payload.textContent);
  if (current.record === record) document.body.dataset.shown = record.name;
}

async function showPictures(record, text) {
  const { volumes, surfaces } = await readPayload(text);
  if (current.record !== record) return;
  current.slices = new Slices(byId("slices"), volumes, new Set(surfaces.map((s) => s.structure)).size > 1);
  current.surfaces = new Surfaces(surfaces, run.colours, Object.fromEntries(run.structures.map((s) => [s.name, s.colour])));
  buildControls(record);
  showStructures();
  byId("surfaces").hidden = !surfaces.length;
  showBar();
  if (surfaces.length) await current.surfaces.show();
}

function buildControls(record) {
  const { surfaces } = current, { state } = surfaces;
  const drawn = run.structures.filter((s) => surfaces.surfaces.some((surface) => surface.structure === s.name));
  byId("structures").replaceChildren(byId("structures").firstElementChild, ...drawn.map((s) =>
    checkbox(`structure-${s.name}`, s.name, true, (on) => {
      state.structures[on ? "add" : "delete"](s.name);
      showStructures();
      surfaces.update();
    }, drawn.length > 1 ? s.colour : "")));
  byId("structures").hidden = drawn.length < 2;
  byId("stages").replaceChildren(byId("stages").firstElementChild, ...surfaces.stages.map((stage) => {
    const label = checkbox(`stage-${stage}`, stage, state.shown.has(stage), (on) => {
      state.shown[on ? "add" : "delete"](stage);
      surfaces.update();
    }, STAGE_COLOURS[stage]);
    const opacity = element("input", { type: "range", min: 0.1, max: 1, step: 0.05, value: state.opacity[stage], id: `opacity-${stage}` });
    opacity.setAttribute("aria-label", `opacity of the ${stage} surface`);
    opacity.title = "opacity";
    opacity.addEventListener("input", () => {
      state.opacity[stage] = Number(opacity.value);
      surfaces.update();
    });
    label.append(opacity);
    return label;
  }), checkbox("side-by-side", "side by side", state.sideBySide, (on) => {
    state.sideBySide = on;
    surfaces.update();
  }));
  fillSelect(byId("colouring"), surfaces.colourings().map((key) => [key, COLOURINGS[key].name]), state.colouring, (key) => {
    state.colouring = key;
    state.range = surfaces.suitableRange();
    fillRanges();
    showBar();
    surfaces.update();
  });
  fillRanges();
  byId("cameras").replaceChildren("Seen from", ...Object.keys(CAMERAS).map((name) => {
    const button = element("button", { textContent: name });
    button.addEventListener("click", () => surfaces.lookFrom(name));
    return button;
  }));
}

function fillRanges() {
  const { surfaces } = current, { state } = surfaces;
  const from = leastOf(state.colouring, 1) ? "±" : "0 to";
  fillSelect(byId("range"), RANGES_MM.map((mm) => [mm, `${from} ${mm} mm`]), state.range, (mm) => {
    state.range = Number(mm);
    showBar();
    surfaces.update();
  });
}

function fillSelect(select, options, value, change) {
  select.replaceChildren(...options.map(([key, textContent]) => element("option", { value: key, textContent })));
  select.value = value;
  select.onchange = () => change(select.value);
}

// Tell the slices which label numbers the chosen structures have.
function showStructures() {
  const chosen = run.structures.filter((s) => current.surfaces.state.structures.has(s.name));
  current.slices.show(chosen.map((s) => {
    const member = new Uint8Array(256);
    for (const label of s.numbers) member[label] = 1;
    return member;
  }), chosen.map((s) => s.colour));
}

function showBar() {
  const { colouring, range } = current.surfaces.state;
  byId("bar").style.background = `linear-gradient(to right, ${coloursOf(colouring, run.colours).join(", ")})`;
  byId("bar").hidden = byId("bar-ticks").hidden = byId("range").parentElement.hidden = !inMm(colouring);
  const least = leastOf(colouring, range);
  const ticks = [0, 0.25, 0.5, 0.75, 1].map((share) => least + share * (range - least));
  byId("bar-ticks").replaceChildren(...ticks.map((mm) =>
    element("span", { textContent: mm === 0 ? "0" : `${mm < 0 ? "−" : least ? "+" : ""}${Math.abs(mm)} mm` })));
  byId("bar-caption").textContent = COLOURINGS[colouring].caption;
}

// The case that the page's address names; "" where it names none, or is no address that the page wrote.
function caseInAddress() {
  try {
    return decodeURIComponent(location.hash.replace("#case=", ""));
  } catch {
    return "";
  }
}

function showPlace(pointWorld) {
  current.slices?.moveToWorld(pointWorld);
  current.surfaces?.mark(pointWorld);
  byId("views").scrollIntoView({ block: "nearest" });
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => current?.surfaces?.update());
hintOfScroll(byId("cases").parentElement);
byId("title").textContent = run.title;
byId("summary").textContent = run.summary;
byId("sizes").append(...run.sizes.map((text) => element("li", { textContent: text })));
byId("sizes").hidden = !run.sizes.length;
definitions(byId("about"), run.about);
definitions(byId("provenance"), run.provenance);
const table = new CaseTable(byId("cases"), run.cases, run.order, openCase);
const wanted = caseInAddress();
if (run.cases.length) openCase(run.cases.find((c) => c.name === wanted) || table.cases.find((c) => byId(`payload-${c.number}`)) || table.cases[0]);
