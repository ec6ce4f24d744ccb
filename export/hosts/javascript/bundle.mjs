/** What an exported file says of itself, and what a host does by it: shared by the Node and the browser host. */

const PREFIX = 'imaging_ft.';
const SCHEMAS = ['imaging_ft.bundle/1', 'imaging_ft.bundle/2'];
const METADATA_PROPS = 14; // of ModelProto, in onnx.proto; each entry holds its key as field 1, its value as field 2

/** The model does not give the logits that it says it gives. */
export class GoldenError extends Error {}

/** Return the bundle in an ONNX file's bytes: an object by the keys of docs/bundle.md. Throws Error in one line. */
export function readBundle(bytes) {
  const bundle = {};
  for (const [key, text] of Object.entries(readMetadata(bytes))) {
    if (key.startsWith(PREFIX)) bundle[key.slice(PREFIX.length)] = JSON.parse(text);
  }
  if (bundle.schema === undefined) throw new Error('not a bundle: it has no imaging_ft.* metadata');
  if (!SCHEMAS.includes(bundle.schema)) {
    throw new Error(`bundle schema '${bundle.schema}', but this host reads ${SCHEMAS.join(' and ')}`);
  }
  if (bundle.graph?.preprocessing === 'outside') {
    throw new Error('its images are to be prepared by the host; export it with --target server-cpu or browser');
  }
  return bundle;
}

/** Return an ONNX file's metadata_props, text by key. JavaScript's onnxruntime has no way to ask for them. */
export function readMetadata(bytes) {
  const found = {};
  for (const [field, part] of fields(bytes)) {
    if (field !== METADATA_PROPS) continue;
    const entry = {};
    for (const [number, text] of fields(part)) entry[number] = new TextDecoder().decode(text);
    found[entry[1]] = entry[2] ?? '';
  }
  return found;
}

/** Yield [number, bytes] of each length-delimited field of a protobuf message; the others are stepped over. */
function* fields(bytes) {
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      if (at >= bytes.length) throw new Error('not an ONNX file, or cut short');
      const byte = bytes[at++];
      value += (byte & 127) * scale;
      if (byte < 128) return value;
    }
  };
  while (at < bytes.length) {
    const tag = varint();
    const kind = tag % 8;
    if (kind === 0) varint();
    else if (kind === 1) at += 8;
    else if (kind === 5) at += 4;
    else if (kind === 2) {
      const length = varint();
      if (at + length > bytes.length) throw new Error('not an ONNX file, or cut short');
      yield [Math.floor(tag / 8), bytes.subarray(at, at + length)];
      at += length;
    } else throw new Error('not an ONNX file');
  }
}

/** Return the golden sample as {data, dims}, for a tensor of type bundle.golden.dtype. */
export function goldenInput({ golden }) {
  const bytes = Uint8Array.from(atob(golden.data), (character) => character.charCodeAt(0));
  return { data: golden.dtype === 'uint16' ? new Uint16Array(bytes.buffer) : bytes, dims: golden.shape };
}

/** Throw GoldenError where logits (flat) are off by more than the golden sample's tolerance. */
export function checkGolden({ golden }, logits) {
  const expected = golden.logits.flat();
  const apart = Math.max(...expected.map((value, index) => Math.abs(value - logits[index])));
  if (!(apart <= golden.tolerance)) {
    throw new GoldenError(`self-test failed: a logit is off by ${apart.toPrecision(3)} (allowed: ${golden.tolerance})`);
  }
}

/** Return an image {data (RGB, 8 or 16 bits), width, height} as {data, dims} in the model's channels and dtype. */
export function modelInput({ data, width, height }, { input }) {
  const wide = data instanceof Uint16Array;
  const make = input.dtype === 'uint16' ? Uint16Array : Uint8Array;
  let scale = (value) => value;
  if (input.dtype === 'uint16' && !wide) scale = (value) => value * 257;
  if (input.dtype === 'uint8' && wide) scale = (value) => Math.floor((value + 128) / 257);
  const dims = [1, height, width, input.channels];
  if (input.channels === 3) return { data: make.from(data, scale), dims };
  const gray = new make(width * height); // in integers, so that every host rounds a half alike
  for (let pixel = 0, at = 0; pixel < gray.length; pixel++, at += 3) {
    const luma = 299 * scale(data[at]) + 587 * scale(data[at + 1]) + 114 * scale(data[at + 2]);
    gray[pixel] = Math.floor((luma + 500) / 1000);
  }
  return { data: gray, dims };
}

/** Return {label, probability, present} of an image's probabilities; docs/bundle.md says how a label is chosen. */
export function decide({ task, labels, thresholds }, probabilities) {
  const all = Array.from(probabilities);
  if (!all.every(Number.isFinite)) throw new Error('the model gives probabilities that are no numbers');
  const most = Math.max(...all);
  const said = (value, index) =>
    task === 'multilabel' ? value >= thresholds[labels[index].name] : index === all.indexOf(most);
  const present = all.map(said);
  const probability = present.includes(true) ? Math.max(...all.filter((_, index) => present[index])) : most;
  return { label: labels.filter((_, index) => present[index]).map(({ name }) => name).join('|'), probability, present };
}
