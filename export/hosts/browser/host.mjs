/** The page: a model and a picture in, label, probabilities and heat map out. Everything runs here. */

import { checkGolden, decide, goldenInput, modelInput, readBundle } from '../javascript/bundle.mjs';
import { drawHeat, drawPicture, heatOver } from './heat.mjs';
import { readPicture } from './picture.mjs';
import { byId, showModel, showSaid } from './view.mjs';

const RUNTIME = new URL('./node_modules/onnxruntime-web/dist/', import.meta.url).href;
const main = document.querySelector('main');

let ort = null; // loaded with the first model
let model = null; // {name, bundle, session}, once it has passed its self-test
let picture = null; // {name, data, width, height}
let heat = null; // of the picture's class, over the canvas
let waiting = 0;
let jobs = Promise.resolve();

/** Do one thing after another; what goes wrong becomes one line that names the file. */
function enqueue(file, job) {
  waiting += 1;
  main.setAttribute('aria-busy', 'true');
  byId('error').hidden = true;
  byId('result').hidden = true;
  jobs = jobs
    .then(() => {
      byId('status').textContent = `Opening ${file.name} …`;
      return job(file);
    })
    .catch((error) => {
      byId('error').textContent = `${file.name}: ${String(error?.message ?? error).split('\n')[0]}`;
      byId('error').hidden = false;
      byId('status').textContent = 'Choose another file.';
    })
    .finally(() => {
      waiting -= 1;
      if (waiting === 0) main.setAttribute('aria-busy', 'false');
    });
}

async function openModel(file) {
  model = null;
  byId('about').hidden = true;
  const bytes = new Uint8Array(await file.arrayBuffer());
  const bundle = readBundle(bytes);
  await loadRuntime();
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ['wasm'] });
  const { logits } = await session.run(feed(goldenInput(bundle), bundle), ['logits']);
  checkGolden(bundle, logits.data);
  model = { name: file.name, bundle, session };
  await showModel(bundle, bytes);
  await predict();
}

async function loadRuntime() {
  if (ort !== null) return;
  try {
    ort = await import(`${RUNTIME}ort.wasm.min.mjs`);
  } catch {
    throw new Error('onnxruntime-web is not beside this page: run `npm install` in its folder');
  }
  ort.env.wasm.wasmPaths = RUNTIME;
  ort.env.wasm.numThreads = 1; // more need cross-origin isolation headers, which a plain file server doesn't send
}

async function openPicture(file) {
  picture = null;
  picture = { name: file.name, ...(await readPicture(file)) };
  await predict();
}

async function predict() {
  if (model === null || picture === null) {
    byId('status').textContent = model ? 'The model is ready. Choose a picture.' : 'The picture is ready. Choose a model.';
    return;
  }
  const { bundle, session } = model;
  const outputs = ['probabilities', 'saliency'].filter((name) => session.outputNames.includes(name));
  const start = performance.now();
  const { probabilities, saliency } = await session.run(feed(modelInput(picture, bundle), bundle), outputs);
  const said = decide(bundle, probabilities.data);
  const time = performance.now() - start;
  showSaid(said, { probabilities: probabilities.data, bundle, picture, time });
  byId('canvas').ariaLabel = `The picture ${picture.name}`;
  drawPicture(byId('canvas'), picture, bundle.input);
  explain(saliency);
  byId('status').textContent = `${picture.name}, by ${model.name}`;
  byId('result').hidden = false;
}

/** Show the heat map of `saliency` [1, rows, columns], where the model gives one. */
function explain(saliency) {
  byId('heat-control').hidden = saliency === undefined;
  heat = null;
  if (saliency === undefined) return;
  const [, rows, columns] = saliency.dims;
  heat = heatOver({ data: saliency.data, rows, columns }, byId('canvas'), model.bundle.input);
  byId('heat').disabled = heat === null;
  byId('heat-note').textContent = heat
    ? 'Bright: what speaks for the most probable class.'
    : 'Nothing in the picture speaks for the most probable class.';
  paintHeat();
}

function paintHeat() {
  if (heat) drawHeat(byId('canvas'), heat, byId('heat').value / 100);
}

function feed({ data, dims }, { input }) {
  return { image: new ort.Tensor(input.dtype, data, dims) };
}

/** Put a dropped file where it would have been chosen. */
function choose(file) {
  const input = byId(file.name.toLowerCase().endsWith('.onnx') ? 'model' : 'picture');
  const files = new DataTransfer();
  files.items.add(file);
  input.files = files.files;
  input.dispatchEvent(new Event('change'));
}

byId('model').addEventListener('change', ({ target }) => target.files[0] && enqueue(target.files[0], openModel));
byId('picture').addEventListener('change', ({ target }) => target.files[0] && enqueue(target.files[0], openPicture));
byId('heat').addEventListener('input', () => {
  drawPicture(byId('canvas'), picture, model.bundle.input);
  paintHeat();
});
document.addEventListener('dragover', (event) => {
  event.preventDefault();
  main.classList.add('dropping');
});
document.addEventListener('dragleave', (event) => {
  if (event.relatedTarget === null) main.classList.remove('dropping');
});
document.addEventListener('drop', (event) => {
  event.preventDefault();
  main.classList.remove('dropping');
  for (const file of event.dataTransfer.files) choose(file);
});
main.setAttribute('aria-busy', 'false');
