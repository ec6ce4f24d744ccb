/**
 * Predict images with an exported model: onnxruntime-node, and sharp as the decoder.
 *
 *     npm install
 *     node predict.mjs model.onnx IMAGE...
 *
 * Prints for each image its path, label, probability and time (from decoded pixels to probabilities), between tabs.
 * Exit codes: 0 done; 1 the model does not give its golden logits; 2 a file is missing or of another kind.
 */

import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import sharp from 'sharp';
import { GoldenError, checkGolden, decide, goldenInput, modelInput, readBundle } from '../javascript/bundle.mjs';

process.env.ORT_DISABLE_TELEMETRY ??= '1'; // before it is loaded: it would report to its makers
const { default: ort } = await import('onnxruntime-node');

/** Return {bundle, session} of a file, after its self-test. */
async function openModel(path) {
  if (!existsSync(path)) throw new Error('no such model file');
  const bytes = await readFile(path);
  const bundle = readBundle(bytes);
  const session = await ort.InferenceSession.create(bytes, { executionProviders: ['cpu'] });
  const { logits } = await session.run(feed(goldenInput(bundle), bundle), ['logits']);
  checkGolden(bundle, logits.data);
  return { bundle, session };
}

function feed({ data, dims }, { input }) {
  return { image: new ort.Tensor(input.dtype, data, dims) };
}

/** Return an image file as {data (RGB, 8 or 16 bits), width, height}, upright. */
async function readImage(path) {
  if (!existsSync(path)) throw new Error('no such image file');
  // A colour profile is left alone, as in training: stored values count.
  const image = sharp(await readFile(path), { ignoreIcc: true, autoOrient: true });
  const { depth, hasAlpha } = await image.metadata();
  if (hasAlpha && !(await image.stats()).isOpaque) {
    throw new Error('has transparent pixels; save it without transparency');
  }
  const wide = depth === 'ushort';
  const { data, info } = await image
    .removeAlpha()
    .toColourspace(wide ? 'rgb16' : 'srgb')
    .raw({ depth: wide ? 'ushort' : 'uchar' })
    .toBuffer({ resolveWithObject: true });
  const values = wide ? new Uint16Array(data.buffer, data.byteOffset, data.length / 2) : data;
  return { data: values, width: info.width, height: info.height };
}

function say(path, error) {
  console.error(`${path}: ${error.message.split('\n')[0]}`);
}

async function main([modelPath, ...paths]) {
  if (paths.length === 0) {
    console.error('usage: node predict.mjs model.onnx IMAGE...');
    return 2;
  }
  let model;
  try {
    model = await openModel(modelPath);
  } catch (error) {
    say(modelPath, error);
    return error instanceof GoldenError ? 1 : 2;
  }
  let worst = 0;
  for (const path of paths) {
    try {
      const image = await readImage(path);
      const start = performance.now();
      const { probabilities } = await model.session.run(feed(modelInput(image, model.bundle), model.bundle), [
        'probabilities',
      ]);
      const { label, probability } = decide(model.bundle, probabilities.data);
      const time = (performance.now() - start).toFixed(1);
      console.log(`${path}\t${label}\t${probability.toFixed(6)}\t${time} ms`);
    } catch (error) { // one bad image does not stop the others
      say(path, error);
      worst = 2;
    }
  }
  return worst;
}

process.exitCode = await main(process.argv.slice(2));
