// The surfaces of a case in 3D, coloured by distances.

const STAGE_COLOURS = { initial: "#ff8a3d", refined: "#22b8d1", truth: "#e3c22f" };
const CAMERAS = { // where the eye stands, in units of the scene; x right, y anterior, z superior
  front: [0, 1, 0], back: [0, -1, 0], left: [-1, 0, 0], right: [1, 0, 0], above: [0, 0, 1], below: [0, 0, -1],
};
const COLOURINGS = {
  moved: { name: "moved by the refinement", caption: "mm the refinement moved the surface: + outward, − inward" },
  error: { name: "error against truth", caption: "mm from the true surface: + outside, too much; − inside, missing" },
  place: { name: "correspondence", caption: "the same colour is the same anatomical place in every case" },
  stage: { name: "initial, refined, truth", caption: "one colour a stage" },
};
const RANGES_MM = [0.5, 1, 2, 3, 5, 10, 20];

class Surfaces {
  constructor(surfaces, colours) {
    this.surfaces = surfaces;
    this.scale = colours.map((colour, n) => [n / (colours.length - 1), colour]);
    this.stages = ["initial", "refined", "truth"].filter((stage) => surfaces.some((s) => s.stage === stage));
    this.box = document.getElementById("scene");
    this.state = {
      structures: new Set(surfaces.map((s) => s.structure)),
      shown: new Set([this.stages.includes("refined") ? "refined" : "initial"]),
      opacity: { initial: 0.35, refined: 1, truth: 0.35 },
      colouring: this.colourings()[0],
    };
    this.state.range = this.suitableRange();
  }

  colourings() {
    return Object.keys(COLOURINGS).filter((key) => key === "stage" || this.surfaces.some((s) => s[key]));
  }

  // The smallest range that holds 99 % of the distances shown.
  suitableRange() {
    const values = this.surfaces.flatMap((s) => Array.from(s[this.state.colouring] || [], Math.abs)).sort((a, b) => a - b);
    const high = values.length ? values[Math.floor(0.99 * (values.length - 1))] : 1;
    return RANGES_MM.find((range) => range >= high) || RANGES_MM.at(-1);
  }

  extent(axis) {
    let low = Infinity, high = -Infinity;
    for (const s of this.surfaces) for (const v of s[axis]) { low = Math.min(low, v); high = Math.max(high, v); }
    return [low, high];
  }

  // From the front, unless the shapes are much broader seen from the side; then from the side of the body they are on.
  bestCamera() {
    const [x, y] = [this.extent("x"), this.extent("y")];
    if (y[1] - y[0] < 1.4 * (x[1] - x[0])) return "front";
    return x[0] + x[1] < 0 ? "left" : "right";
  }

  camera(name) {
    const eye = CAMERAS[name].map((v) => 2 * v);
    const up = Math.abs(eye[2]) > 0 ? { x: 0, y: 1, z: 0 } : { x: 0, y: 0, z: 1 };
    return { eye: { x: eye[0], y: eye[1], z: eye[2] }, up, center: { x: 0, y: 0, z: 0 }, projection: { type: "orthographic" } };
  }

  traces() {
    const light = { x: 0, y: 0, z: 0 };
    CAMERAS[this.bestCamera()].forEach((v, a) => { light["xyz"[a]] = 1e5 * (v + [0.3, 0, 0.6][a]); });
    return this.surfaces.map((s) => ({
      type: "mesh3d", x: s.x, y: s.y, z: s.z, i: s.i, j: s.j, k: s.k, hoverinfo: "skip", showscale: false,
      lighting: { ambient: 0.5, diffuse: 0.65, specular: 0.12, roughness: 0.6, fresnel: 0.05 }, lightposition: light,
      ...this.look(s),
    }));
  }

  look(surface) {
    const { structures, shown, opacity, colouring, range } = this.state;
    const look = {
      visible: structures.has(surface.structure) && shown.has(surface.stage),
      opacity: opacity[surface.stage], intensity: null, vertexcolor: null, color: STAGE_COLOURS[surface.stage],
      colorscale: this.scale, cmin: -range, cmax: range,
    };
    if (colouring === "place" && surface.place) {
      look.vertexcolor = Array.from(surface.x, (_, v) => `rgb(${surface.place.slice(3 * v, 3 * v + 3).join()})`);
    } else if (surface[colouring] && colouring !== "stage") {
      look.intensity = surface[colouring];
    }
    return look;
  }

  async show() {
    this.marker = { type: "scatter3d", mode: "markers", x: [], y: [], z: [], hoverinfo: "skip", showlegend: false,
      marker: { size: 9, color: "#d946ef", line: { color: "#ffffff", width: 2 } } };
    const axis = (name) => {
      const [low, high] = this.extent(name);
      return { visible: false, showspikes: false, range: [low - 1, high + 1] };
    };
    this.layout = { margin: { l: 0, r: 0, t: 0, b: 0 }, paper_bgcolor: "rgba(0,0,0,0)", showlegend: false,
      scene: { xaxis: axis("x"), yaxis: axis("y"), zaxis: axis("z"), aspectmode: "data", dragmode: "turntable",
        camera: this.camera(this.bestCamera()) } };
    await Plotly.newPlot(this.box, [...this.traces(), this.marker], this.layout, { displayModeBar: false, responsive: true });
  }

  // Restyle what has changed and leave the camera where it is.
  update() {
    const looks = this.surfaces.map((s) => this.look(s)), restyle = {};
    for (const key of Object.keys(looks[0])) restyle[key] = looks.map((look) => look[key]);
    return Plotly.restyle(this.box, restyle, this.surfaces.map((_, n) => n));
  }

  close() {
    Plotly.purge(this.box);
  }

  lookFrom(name) {
    return Plotly.relayout(this.box, { "scene.camera": this.camera(name) });
  }

  mark(point) {
    return Plotly.restyle(this.box, { x: [[point[0]]], y: [[point[1]]], z: [[point[2]]] }, [this.surfaces.length]);
  }
}
