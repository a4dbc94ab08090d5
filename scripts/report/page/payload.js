// A case's volumes and surfaces: base64 of gzip of [header length, JSON header, arrays], decoded when the case is opened.

const ARRAY_TYPES = { uint8: Uint8Array, uint16: Uint16Array, uint32: Uint32Array, int16: Int16Array, float32: Float32Array };

async function readPayload(text) {
  const packed = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const buffer = await new Response(stream).arrayBuffer();
  const headerLength = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, headerLength)));
  const array = ({ type, offset, length }) => new ARRAY_TYPES[type](buffer, 4 + headerLength + offset, length);
  const volumes = header.volumes && (await readVolumes(header.volumes, array));
  const surfaces = header.surfaces.map((surface) => readSurface(surface, array));
  return { volumes, surfaces };
}

async function readVolumes(stored, array) {
  const labels = {};
  for (const [stage, part] of Object.entries(stored.labels)) labels[stage] = array(part);
  const image = stored.image && (await readImage(stored.image, array));
  return { ...stored, labels, image };
}

// An image is stored as pictures of axial slices side by side; x runs along a picture's rows, y down them.
async function readImage(stored, array) {
  const [nx, ny, nz] = stored.shape;
  const values = new Uint8Array(nx * ny * nz);
  let z = 0;
  for (const part of stored.sheets) {
    const sheet = await createImageBitmap(new Blob([array(part)], { type: "image/webp" }));
    const canvas = new OffscreenCanvas(sheet.width, sheet.height);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(sheet, 0, 0);
    for (let tile = 0; tile < stored.columns * stored.rows && z < nz; tile++, z++) {
      const left = (tile % stored.columns) * nx, top = Math.floor(tile / stored.columns) * ny;
      const pixels = context.getImageData(left, top, nx, ny).data;
      for (let k = 0; k < nx * ny; k++) values[z * nx * ny + k] = pixels[4 * k];
    }
  }
  return { shape: stored.shape, step: stored.step, values };
}

function readSurface(stored, array) {
  const whole = array(stored.vertices), faces = array(stored.faces);
  const axis = (a) => Float32Array.from({ length: whole.length / 3 }, (_, v) => stored.origin[a] + stored.unit[a] * whole[3 * v + a]);
  const corner = (c) => Uint32Array.from({ length: faces.length / 3 }, (_, f) => faces[3 * f + c]);
  const millimetres = (part) => part && Float32Array.from(array(part), (hundredths) => hundredths / 100);
  return {
    structure: stored.structure, stage: stored.stage,
    x: axis(0), y: axis(1), z: axis(2), i: corner(0), j: corner(1), k: corner(2),
    moved: millimetres(stored.moved), error: millimetres(stored.error), uncertainty: millimetres(stored.uncertainty),
    place: stored.place && array(stored.place),
  };
}
