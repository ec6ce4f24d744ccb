/** Picture files to pixels as they are stored, without the browser's colour management. */

const MOST_PIXELS = 100e6;

/** Return a picture as {data (RGB, Uint8Array or of a 16-bit PNG Uint16Array), width, height}, upright. */
export async function readPicture(file) {
  const bytes = new Uint8Array(await file.arrayBuffer());
  const isPng = bytes.length > 33 && String.fromCharCode(...bytes.subarray(1, 4)) === 'PNG';
  if (isPng && bytes[24] === 16) return decodePng16(bytes); // a canvas would keep 8 bits
  let bitmap;
  try {
    bitmap = await createImageBitmap(file, { colorSpaceConversion: 'none', premultiplyAlpha: 'none' });
  } catch {
    throw new Error("can't be read as a picture; choose a PNG, JPEG or WebP file");
  }
  const { width, height } = bitmap;
  if (width * height > MOST_PIXELS) throw new Error('over 100 megapixels; scale it down');
  const context = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  const { data: rgba } = context.getImageData(0, 0, width, height);
  const data = new Uint8Array(width * height * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    if (rgba[from + 3] < 255) throw new Error('has transparent pixels; save it without transparency');
    data[to] = rgba[from];
    data[to + 1] = rgba[from + 1];
    data[to + 2] = rgba[from + 2];
  }
  return { data, width, height };
}

/** Return a 16-bit PNG (gray or RGB, PNG specification, colour types 0 and 2) as {data (RGB), width, height}. */
async function decodePng16(bytes) {
  const view = new DataView(bytes.buffer);
  const [width, height, colour] = [view.getUint32(16), view.getUint32(20), bytes[25]];
  if ((colour !== 0 && colour !== 2) || bytes[28] !== 0) {
    throw new Error('a 16-bit PNG with alpha or interlace; save it as gray or RGB');
  }
  if (width * height > MOST_PIXELS) throw new Error('over 100 megapixels; scale it down');
  const parts = [];
  for (let at = 8; at + 12 <= bytes.length; at += 12 + view.getUint32(at)) {
    const type = String.fromCharCode(...bytes.subarray(at + 4, at + 8));
    if (type === 'IDAT') parts.push(bytes.subarray(at + 8, at + 8 + view.getUint32(at)));
    if (type === 'tRNS') throw new Error('has a transparent colour; save it without transparency');
  }
  const channels = colour === 2 ? 3 : 1;
  const step = 2 * channels; // bytes a pixel
  const row = width * step;
  let rows;
  try {
    const inflated = new Blob(parts).stream().pipeThrough(new DecompressionStream('deflate'));
    rows = new Uint8Array(await new Response(inflated).arrayBuffer());
  } catch {
    throw new Error('a damaged PNG');
  }
  if (rows.length !== height * (row + 1)) throw new Error('a damaged PNG: its rows are not as many as it says');
  unfilter(rows, row, step);
  const data = new Uint16Array(width * height * 3);
  for (let to = 0, pixel = 0; pixel < width * height; pixel++) {
    const from = pixel * step + Math.floor(pixel / width) + 1; // each row begins with its filter
    for (let channel = 0; channel < 3; channel++) {
      const at = from + (channels === 3 ? 2 * channel : 0);
      data[to++] = rows[at] * 256 + rows[at + 1];
    }
  }
  return { data, width, height };
}

/** Undo the filters of a PNG's rows in place (PNG specification, 9.2). */
function unfilter(rows, row, step) {
  for (let start = 0; start < rows.length; start += row + 1) {
    const filter = rows[start];
    for (let at = start + 1; at <= start + row; at++) {
      const left = at - step > start ? rows[at - step] : 0;
      const up = start > 0 ? rows[at - row - 1] : 0;
      const corner = start > 0 && at - step > start ? rows[at - row - 1 - step] : 0;
      const toLeft = Math.abs(up - corner);
      const toUp = Math.abs(left - corner);
      const toCorner = Math.abs(left + up - 2 * corner);
      const nearest = toLeft <= toUp && toLeft <= toCorner ? left : toUp <= toCorner ? up : corner;
      rows[at] += [0, left, up, (left + up) >> 1, nearest][filter] ?? 0;
    }
  }
}
