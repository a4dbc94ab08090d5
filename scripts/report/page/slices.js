// Slices through the masks, and the image where there is one, with contours along the edges of voxels.

// Which of the axes (right, anterior, superior) runs across, up and through a view. Patients are seen from the front and
// from the feet, so right and anterior run to the left.
const VIEWS = [
  { name: "axial", across: 0, up: 1, through: 2, letters: ["R", "L", "A", "P"] },
  { name: "coronal", across: 0, up: 2, through: 1, letters: ["R", "L", "S", "I"] },
  { name: "sagittal", across: 1, up: 2, through: 0, letters: ["A", "P", "S", "I"] },
];
const CONTOURS = [
  { stage: "initial", colour: "#ff8a3d", dash: [], width: 1.5 },
  { stage: "refined", colour: "#22d3ee", dash: [], width: 2 },
  { stage: "truth", colour: "#ffe14d", dash: [5, 4], width: 1.5 },
];

const AROUND_MM = 15; // shown around the masks, as of the volumes
const CLOSER = 0.75; // of an axis' length, below which it is worth a closer look without what lies far away

const FILL = 0.3; // opacity of a structure's colour
const STACKED = 1.15; // height by width of the three views around a corner; where they would be higher, they stand in a row

class Slices {
  // `several`: whether there are structures to tell apart.
  constructor(box, volumes, several) {
    this.volumes = volumes;
    this.filled = several;
    this.several = several;
    this.position = [...volumes.start];
    this.shownStages = new Set(["initial", "refined", "truth"]);
    this.members = []; // one lookup table a shown structure: label number → whether it belongs to it
    this.box = box;
    this.whole = volumes.shape.map((n) => [0, n]);
    this.near = this.boxOfResult();
    this.window = this.near || this.whole; // per axis the voxels shown, [first, behind the last]
    this.views = VIEWS.map((view) => this.buildView(box, view));
    box.append(this.buildKey());
    this.arrange();
    new ResizeObserver(() => this.draw()).observe(box);
  }

  // The box of the refined masks and the truth, and what is around; null where the whole is not much larger.
  boxOfResult() {
    const { shape, spacing, labels } = this.volumes, low = [...shape], high = [0, 0, 0];
    for (const values of [labels.refined || labels.initial, labels.truth].filter(Boolean)) {
      for (let row = 0; row < shape[1] * shape[2]; row++) {
        const start = row * shape[0];
        let first = 0, last = shape[0] - 1;
        while (first <= last && !values[start + first]) first++;
        if (first > last) continue;
        while (!values[start + last]) last--;
        const y = row % shape[1], z = Math.floor(row / shape[1]);
        [first, y, z].forEach((at, a) => { low[a] = Math.min(low[a], at); });
        [last, y, z].forEach((at, a) => { high[a] = Math.max(high[a], at + 1); });
      }
    }
    if (low[0] >= high[0]) return null;
    const box = shape.map((n, a) => {
      const margin = Math.ceil(AROUND_MM / spacing[a]);
      return [Math.max(low[a] - margin, 0), Math.min(high[a] + margin, n)];
    });
    return box.some(([from, to], a) => to - from < CLOSER * shape[a]) ? box : null;
  }

  look(window) {
    this.window = window;
    const closer = byId("closer");
    if (closer) closer.checked = window === this.near;
    this.arrange();
    this.draw();
  }

  // Length in mm of what is shown along an axis.
  extent(axis) {
    return (this.window[axis][1] - this.window[axis][0]) * this.volumes.spacing[axis];
  }

  // Every view fills its panel: all have the same scale, and the panels the views' proportions.
  arrange() {
    const [x, y, z] = [0, 1, 2].map((axis) => this.extent(axis));
    const around = (z + y) / (x + y) < STACKED;
    this.box.className = around ? "around" : "row";
    const shares = around ? [x, y] : [x / y, x / z, y / z];
    for (const { canvas, across, up } of this.views) canvas.style.aspectRatio = `${this.extent(across)} / ${this.extent(up)}`;
    this.box.style.setProperty("--columns", shares.map((share) => `minmax(0, ${share.toFixed(3)}fr)`).join(" "));
  }

  buildView(box, view) {
    const figure = element("figure", { className: `slice ${view.name}` });
    const caption = element("figcaption");
    const title = element("strong", { textContent: view.name }), place = element("span");
    caption.append(title, place);
    const canvas = element("canvas", { id: `slice-${view.name}` });
    const slider = element("input", {
      type: "range", min: 0, max: this.volumes.shape[view.through] - 1, value: this.position[view.through], id: `slider-${view.name}`,
    });
    slider.setAttribute("aria-label", `${view.name} slice`);
    slider.addEventListener("input", () => this.moveTo(view.through, Number(slider.value)));
    const parts = { ...view, canvas, slider, place };
    canvas.addEventListener("click", (event) => this.pick(parts, event));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.moveTo(view.through, this.position[view.through] + Math.sign(event.deltaY));
    }, { passive: false });
    figure.append(caption, canvas, slider);
    box.append(figure);
    return parts;
  }

  buildKey() {
    const key = element("div", { className: "key" });
    for (const { stage, colour, dash } of CONTOURS.filter((c) => c.stage in this.volumes.labels)) {
      const line = element("p");
      line.innerHTML = `<svg width="34" height="14"><line x1="3" x2="31" y1="7" y2="7" stroke="${colour}" stroke-width="2.5" stroke-dasharray="${dash}"/></svg>`;
      const label = element("label"), box = element("input", { type: "checkbox", checked: true, id: `contour-${stage}` });
      box.addEventListener("change", () => {
        this.shownStages[box.checked ? "add" : "delete"](stage);
        this.draw();
      });
      label.append(box, ` ${stage} contour`);
      line.append(label);
      key.append(line);
    }
    if (this.several) {
      const line = element("p");
      line.append(checkbox("filled", "structures filled with their colours", true, (on) => {
        this.filled = on;
        this.draw();
      }));
      key.append(line);
    }
    if (this.near) {
      const line = element("p");
      line.append(checkbox("closer", "closer: only around the refined mask", true, (on) => this.look(on ? this.near : this.whole)));
      key.append(line);
    }
    const [dx, dy, dz] = this.volumes.spacing.map((mm) => mm.toFixed(2));
    const tilt = this.volumes.tilt > 1 ? ` The image's axes are tilted by ${this.volumes.tilt.toFixed(0)}° from the body's.` : "";
    const source = this.volumes.image ? "" : " No image was at hand.";
    key.append(element("span", {
      className: "help",
      textContent: `Click a slice to move the others there; scroll or use the slider to leaf. Voxels of ${dx} × ${dy} × ${dz} mm, cut to the masks and 15 mm around.${tilt}${source}`,
    }));
    return key;
  }

  // Show a world point (mm) in all views.
  moveToWorld(point) {
    const voxel = this.volumes.toVoxel.slice(0, 3).map((row) => row[3] + row[0] * point[0] + row[1] * point[1] + row[2] * point[2]);
    this.position = voxel.map((v, a) => this.clamp(a, Math.round(v)));
    if (this.window.some(([from, to], a) => this.position[a] < from || this.position[a] >= to)) this.look(this.whole);
    this.draw();
  }

  moveTo(axis, index) {
    this.position[axis] = this.clamp(axis, index);
    this.draw();
  }

  clamp(axis, index) {
    return Math.min(Math.max(index, 0), this.volumes.shape[axis] - 1);
  }

  // `members`: of each structure a table, label number → 1 where it is the structure's; `colours`: theirs, as #rrggbb.
  show(members, colours) {
    this.members = members;
    this.colours = colours.map((colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)));
    this.draw();
  }

  pick(view, event) {
    const { scale, left, top } = this.placement(view);
    const [du, dv] = [this.volumes.spacing[view.across], this.volumes.spacing[view.up]];
    const u = Math.floor((event.offsetX - left) / scale / du), v = Math.floor((event.offsetY - top) / scale / dv);
    this.position[view.across] = this.clamp(view.across, this.volumes.shape[view.across] - 1 - u);
    this.position[view.up] = this.clamp(view.up, this.volumes.shape[view.up] - 1 - v);
    this.draw();
  }

  // Pixels a mm, where the whole slice's upper left corner lies on the canvas, and the size of what is shown in mm.
  placement({ canvas, across, up }) {
    const { shape, spacing } = this.volumes, width = this.extent(across), height = this.extent(up);
    const scale = Math.min(canvas.clientWidth / width, canvas.clientHeight / height);
    const [beside, above] = [across, up].map((axis) => (shape[axis] - this.window[axis][1]) * spacing[axis]);
    const left = (canvas.clientWidth - width * scale) / 2 - beside * scale;
    return { scale, left, top: (canvas.clientHeight - height * scale) / 2 - above * scale, width, height };
  }

  draw() {
    for (const view of this.views) this.drawView(view);
  }

  drawView(view) {
    const { canvas, across, up, through } = view, { shape, spacing, affine } = this.volumes;
    const ratio = window.devicePixelRatio || 1, context = canvas.getContext("2d");
    canvas.width = Math.round(canvas.clientWidth * ratio);
    canvas.height = Math.round(canvas.clientHeight * ratio);
    const { scale, left, top } = this.placement(view);
    const [width, height] = [across, up].map((axis) => shape[axis] * spacing[axis]);
    context.scale(ratio, ratio);
    context.translate(left, top);
    context.fillStyle = "#15181c";
    context.fillRect(0, 0, width * scale, height * scale);
    if (this.volumes.image) this.drawImage(context, view, scale);
    if (this.filled) this.drawFill(context, view, scale);
    const [pu, pv] = [spacing[across] * scale, spacing[up] * scale];
    context.strokeStyle = "#ffffff38";
    context.lineWidth = 1;
    const [cu, cv] = [(shape[across] - 0.5 - this.position[across]) * pu, (shape[up] - 0.5 - this.position[up]) * pv];
    context.stroke(new Path2D(`M${cu} 0V${height * scale}M0 ${cv}H${width * scale}`));
    for (const contour of CONTOURS) {
      if (!(contour.stage in this.volumes.labels) || !this.shownStages.has(contour.stage)) continue;
      context.strokeStyle = contour.colour;
      context.lineWidth = contour.width;
      context.setLineDash(contour.dash);
      for (const member of this.members) context.stroke(this.outline(view, contour.stage, member, pu, pv));
      context.setLineDash([]);
    }
    context.translate(-left, -top);
    this.drawLetters(context, view, canvas.clientWidth, canvas.clientHeight);
    const centre = affine.slice(0, 3).map((row) => row[3] + row[0] * this.position[0] + row[1] * this.position[1] + row[2] * this.position[2]);
    view.place.textContent = `${this.position[through] + 1} of ${shape[through]} · ${"xyz"[through]} = ${centre[through].toFixed(1)} mm`;
    view.slider.value = this.position[through];
  }

  // The label numbers of the slice as a function of columns and rows on the screen.
  reader({ across, up, through }, values, shape, index) {
    const stride = [1, shape[0], shape[0] * shape[1]];
    const start = index * stride[through] + (shape[across] - 1) * stride[across] + (shape[up] - 1) * stride[up];
    return (column, row) => values[start - column * stride[across] - row * stride[up]];
  }

  // Runs of edges between a voxel that belongs to the structure and one that does not.
  outline(view, stage, member, pu, pv) {
    const { shape } = this.volumes, columns = shape[view.across], rows = shape[view.up];
    const read = this.reader(view, this.volumes.labels[stage], shape, this.position[view.through]);
    const inside = (column, row) => column >= 0 && row >= 0 && column < columns && row < rows && member[read(column, row)] === 1;
    const path = new Path2D();
    for (let row = 0; row <= rows; row++) {
      for (let column = 0; column < columns; column++) {
        if (inside(column, row) === inside(column, row - 1)) continue;
        path.moveTo(column * pu, row * pv);
        while (column < columns && inside(column, row) !== inside(column, row - 1)) column++;
        path.lineTo(column * pu, row * pv);
      }
    }
    for (let column = 0; column <= columns; column++) {
      for (let row = 0; row < rows; row++) {
        if (inside(column, row) === inside(column - 1, row)) continue;
        path.moveTo(column * pu, row * pv);
        while (row < rows && inside(column, row) !== inside(column - 1, row)) row++;
        path.lineTo(column * pu, row * pv);
      }
    }
    return path;
  }

  drawImage(context, view, scale) {
    const { image, spacing } = this.volumes, { across, up, through } = view;
    const columns = image.shape[across], rows = image.shape[up];
    const read = this.reader(view, image.values, image.shape, Math.floor(this.position[through] / image.step[through]));
    const picture = new ImageData(columns, rows);
    for (let row = 0, k = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, k += 4) {
        picture.data[k] = picture.data[k + 1] = picture.data[k + 2] = read(column, row);
        picture.data[k + 3] = 255;
      }
    }
    const sheet = new OffscreenCanvas(columns, rows);
    sheet.getContext("2d").putImageData(picture, 0, 0);
    // The last block may reach beyond the masks' grid, on the far side: left and top of the picture.
    const blocks = [columns * image.step[across], rows * image.step[up]];
    const [pu, pv] = [spacing[across] * scale, spacing[up] * scale];
    const [shownColumns, shownRows] = [this.volumes.shape[across], this.volumes.shape[up]];
    context.save();
    context.beginPath();
    context.rect(0, 0, shownColumns * pu, shownRows * pv);
    context.clip();
    context.drawImage(sheet, (shownColumns - blocks[0]) * pu, (shownRows - blocks[1]) * pv, blocks[0] * pu, blocks[1] * pv);
    context.restore();
  }

  // The structures of the refined masks, or of the initial ones where there are no others, in their colours.
  drawFill(context, view, scale) {
    const { labels, shape, spacing } = this.volumes, { across, up, through } = view;
    const read = this.reader(view, labels.refined || labels.initial, shape, this.position[through]);
    const [columns, rows] = [shape[across], shape[up]], picture = new ImageData(columns, rows);
    for (let row = 0, k = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++, k += 4) {
        const label = read(column, row);
        const n = label ? this.members.findIndex((member) => member[label]) : -1;
        if (n >= 0) picture.data.set([...this.colours[n], 255 * FILL], k);
      }
    }
    const sheet = new OffscreenCanvas(columns, rows);
    sheet.getContext("2d").putImageData(picture, 0, 0);
    context.imageSmoothingEnabled = false;
    context.drawImage(sheet, 0, 0, columns * spacing[across] * scale, rows * spacing[up] * scale);
    context.imageSmoothingEnabled = true;
  }

  drawLetters(context, { letters }, width, height) {
    context.fillStyle = "#ffffff";
    context.shadowColor = "#000000";
    context.shadowBlur = 3;
    context.font = "600 12px system-ui, sans-serif";
    context.textBaseline = "middle";
    context.textAlign = "center";
    const places = [[9, height / 2], [width - 9, height / 2], [width / 2, 10], [width / 2, height - 9]];
    letters.forEach((letter, n) => context.fillText(letter, ...places[n]));
    context.shadowBlur = 0;
  }
}
