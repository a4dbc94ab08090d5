// The surfaces of a case in 3D, coloured by distances.

const STAGE_COLOURS = { initial: "#ff8a3d", refined: "#22b8d1", truth: "#e3c22f" };
const CAMERAS = { // where the eye stands, in units of the scene; x right, y anterior, z superior
  front: [0, 1, 0], back: [0, -1, 0], left: [-1, 0, 0], right: [1, 0, 0], above: [0, 0, 1], below: [0, 0, -1],
};
const COLOURINGS = {
  moved: { name: "moved by the refinement", caption: "mm the refinement moved the surface: + outward, − inward" },
  error: { name: "error against truth", caption: "mm from the true surface: + outside, too much; − inside, missing" },
  uncertainty: { name: "uncertainty", caption: "mm, one standard deviation of the true surface, from the spread of fits and mask" },
  place: { name: "correspondence", caption: "the same colour is the same anatomical place in every case" },
  structure: { name: "structures", caption: "one colour a structure" },
  stage: { name: "initial, refined, truth", caption: "one colour a stage" },
};
const LIGHT = { x: 30, y: 60, z: -10 }; // plotly takes it in the frame of the screen: from above, behind the eye
const FILLED = 1.7; // units of the scene that a pane is high, less a margin
const RANGES_MM = [0.5, 1, 2, 3, 5, 10, 20];

class Surfaces {
  // `structureColours`: structure → its colour.
  constructor(surfaces, colours, structureColours) {
    this.surfaces = surfaces;
    this.structureColours = structureColours;
    this.colours = colours;
    this.stages = ["initial", "refined", "truth"].filter((stage) => surfaces.some((s) => s.stage === stage));
    this.box = document.getElementById("solid");
    this.state = {
      structures: new Set(surfaces.map((s) => s.structure)),
      shown: new Set(this.stages.filter((stage) => stage !== "truth")),
      sideBySide: true,
      opacity: { initial: 1, refined: 1, truth: 1 },
      colouring: this.colourings()[0],
    };
    this.state.range = this.suitableRange();
  }

  colourings() {
    const several = new Set(this.surfaces.map((s) => s.structure)).size > 1;
    const there = (key) => (key === "structure" ? several : key === "stage" || this.surfaces.some((s) => s[key]));
    return Object.keys(COLOURINGS).filter(there);
  }

  // The smallest range that holds 97 % of the distances.
  suitableRange() {
    const key = this.state.colouring;
    const values = inMm(key) ? this.chosen(true).flatMap((s) => Array.from(s[key] || [], Math.abs)).sort((a, b) => a - b) : [];
    const high = values.length ? values[Math.floor(0.97 * (values.length - 1))] : 1;
    return RANGES_MM.find((range) => range >= high) || RANGES_MM.at(-1);
  }

  // All surfaces, or the refined ones (initial ones may have islands far away) where there are such.
  chosen(refinedOnly) {
    const refined = this.surfaces.filter((s) => s.stage === "refined");
    return refinedOnly && refined.length ? refined : this.surfaces;
  }

  extent(axis, refinedOnly = false) {
    let low = Infinity, high = -Infinity;
    for (const s of this.chosen(refinedOnly)) for (const v of s[axis]) { low = Math.min(low, v); high = Math.max(high, v); }
    return [low, high];
  }

  // From the front, unless the shapes are much broader seen from the side; then from the side on which more was changed.
  bestCamera() {
    const [x, y] = [this.extent("x", true), this.extent("y", true)];
    if (y[1] - y[0] < 1.4 * (x[1] - x[0])) return "front";
    const middle = (x[0] + x[1]) / 2;
    const change = (s) => (s.moved ? s.x.reduce((total, place, v) => total + Math.abs(s.moved[v]) * Math.sign(place - middle), 0) : 0);
    return this.chosen(true).reduce((total, s) => total + change(s), 0) < 0 ? "left" : "right";
  }

  camera(name) {
    const eye = CAMERAS[name].map((v) => 2 * v);
    const up = Math.abs(eye[2]) > 0 ? { x: 0, y: 1, z: 0 } : { x: 0, y: 0, z: 1 };
    return { eye: { x: eye[0], y: eye[1], z: eye[2] }, up, center: { x: 0, y: 0, z: 0 }, projection: { type: "orthographic" } };
  }

  // Stages shown, each in a pane of its own where they stand side by side.
  panes() {
    const shown = this.stages.filter((stage) => this.state.shown.has(stage));
    return this.state.sideBySide && shown.length > 1 ? shown.map((stage) => [stage]) : [shown];
  }

  traces() {
    const panes = this.panes();
    return this.surfaces.map((s) => ({
      type: "mesh3d", x: s.x, y: s.y, z: s.z, i: s.i, j: s.j, k: s.k, hoverinfo: "skip", showscale: false,
      lighting: { ambient: 0.42, diffuse: 0.75, specular: 0.08, roughness: 0.6, fresnel: 0.05 }, lightposition: LIGHT,
      scene: sceneName(Math.max(panes.findIndex((pane) => pane.includes(s.stage)), 0)), ...this.look(s),
    }));
  }

  markers() {
    const [x, y, z] = this.state.marked ? this.state.marked.map((v) => [v]) : [[], [], []];
    return this.panes().map((_, n) => ({
      type: "scatter3d", mode: "markers", x, y, z, hoverinfo: "skip", scene: sceneName(n),
      marker: { size: 9, color: "#d946ef", line: { color: "#ffffff", width: 2 } },
    }));
  }

  // Where panes lie: side by side, or one above the other where the shapes are wider than high.
  domains(count) {
    const [x, y, z] = this.ranges.map(([low, high]) => high - low);
    const stacked = (this.bestCamera() === "front" ? x : y) > z;
    return Array.from({ length: count }, (_, n) => {
      const part = [n / count, (n + 1) / count];
      return stacked ? { x: [0, 1], y: [1 - part[1], 1 - part[0]] } : { x: part, y: [0, 1] };
    });
  }

  // The scene's sides, so that all of it is seen in a pane from where the eye stands.
  fitted({ x: [left, right], y: [bottom, top] }) {
    const wide = (this.box.clientWidth * (right - left)) / (this.box.clientHeight * (top - bottom));
    const [x, y, z] = this.ranges.map(([low, high]) => high - low);
    const [across, up] = { front: [x, z], back: [x, z], left: [y, z], right: [y, z], above: [x, y], below: [x, y] }[this.seenFrom];
    const unit = FILLED * Math.min(1 / up, wide / across);
    return { x: unit * x, y: unit * y, z: unit * z };
  }

  layout() {
    const panes = this.panes(), domains = this.domains(panes.length), ink = getComputedStyle(document.body).color;
    const axis = ([low, high]) => ({ visible: false, showspikes: false, range: [low, high] });
    const layout = { margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", showlegend: false };
    if (panes.length !== this.fittedFor) this.view.aspectratio = this.fitted(domains[0]);
    this.fittedFor = panes.length;
    panes.forEach((_, n) => {
      const [x, y, z] = this.ranges.map(axis);
      layout[sceneName(n)] = { ...structuredClone(this.view), xaxis: x, yaxis: y, zaxis: z, aspectmode: "manual", dragmode: "turntable",
        domain: domains[n] };
    });
    layout.annotations = panes.map((pane, n) => ({ text: pane.join(" + "), font: { size: 14, color: ink }, showarrow: false,
      xref: "paper", yref: "paper", x: (domains[n].x[0] + domains[n].x[1]) / 2, y: domains[n].y[1], xanchor: "center", yanchor: "top" }));
    return layout;
  }

  // plotly takes the first of intensity, vertexcolor and color that it is given, whatever its value, and keeps a surface's
  // old colour map when it changes between them, unless the surface gets another uid.
  look(surface) {
    const { structures, shown, opacity, colouring, range } = this.state;
    const visible = structures.has(surface.structure) && shown.has(surface.stage);
    const look = { visible, opacity: opacity[surface.stage], uid: `${surface.structure} ${surface.stage} ${colouring}` };
    if (colouring === "place" && surface.place) {
      return { ...look, vertexcolor: Array.from(surface.x, (_, v) => `rgb(${surface.place.slice(3 * v, 3 * v + 3).join()})`) };
    }
    if (colouring === "structure") return { ...look, color: this.structureColours[surface.structure] };
    if (!inMm(colouring) || !surface[colouring]) return { ...look, color: STAGE_COLOURS[surface.stage] };
    const colours = coloursOf(colouring, this.colours);
    const colorscale = colours.map((colour, n) => [n / (colours.length - 1), colour]);
    return { ...look, intensity: surface[colouring], colorscale, cmin: leastOf(colouring, range), cmax: range };
  }

  async show() {
    this.ranges = ["x", "y", "z"].map((axis) => this.extent(axis)).map(([low, high]) => [low - 1, high + 1]);
    this.seenFrom = this.bestCamera();
    this.view = { camera: this.camera(this.seenFrom) };
    await this.update();
    for (const event of ["plotly_relayout", "plotly_relayouting"]) this.box.on(event, (changes) => this.follow(changes));
    this.observer = new ResizeObserver(() => Plotly.Plots.resize(this.box));
    this.observer.observe(this.box);
  }

  // Draw what has changed; the camera stays where it is.
  update() {
    return Plotly.react(this.box, [...this.traces(), ...this.markers()], this.layout(), { displayModeBar: false });
  }

  // One pane was turned or zoomed: the others follow. The pane itself is told too, for plotly sets all back to what it
  // knows, and of a pane that is being turned it does not know yet.
  follow(changes) {
    const turned = Object.keys(changes).map((key) => key.match(/^(scene\d*)\.(camera|aspectratio)$/)).find(Boolean);
    if (!turned) return;
    const [key, , what] = turned, value = structuredClone(changes[key]);
    if (JSON.stringify(value) === JSON.stringify(this.view[what])) return; // the echo of what follows here
    this.view[what] = value;
    const names = this.panes().map((_, n) => sceneName(n));
    if (names.length < 2) return;
    Plotly.relayout(this.box, Object.fromEntries(names.map((name) => [`${name}.${what}`, structuredClone(value)])));
  }

  close() {
    this.observer?.disconnect();
    Plotly.purge(this.box);
  }

  lookFrom(name) {
    this.seenFrom = name;
    this.view = { camera: this.camera(name), aspectratio: this.fitted(this.domains(this.panes().length)[0]) };
    return this.update();
  }

  mark(point) {
    this.state.marked = point;
    return this.update();
  }
}

function inMm(colouring) {
  return colouring === "moved" || colouring === "error" || colouring === "uncertainty";
}

// An uncertainty has no sign: it takes the colours from the middle one on.
function leastOf(colouring, range) {
  return colouring === "uncertainty" ? 0 : -range;
}

function coloursOf(colouring, colours) {
  return colouring === "uncertainty" ? colours.slice((colours.length - 1) / 2) : colours;
}

function sceneName(n) {
  return n ? `scene${n + 1}` : "scene";
}
