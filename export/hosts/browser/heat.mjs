/** A picture on a canvas, and over it where the evidence for its class lies. */

const LONGEST = 800; // pixels of the canvas; the page scales it
const INFERNO = ['000004', '1b0c41', '4a0c6b', '781c6d', 'a52c60', 'cf4446', 'ed6925', 'fb9b06', 'f7d13d', 'fcffa4'];
const STOPS = INFERNO.map((hex) => [0, 2, 4].map((at) => parseInt(hex.slice(at, at + 2), 16)));

/** Draw a picture {data, width, height}; of 16 bits what lies in the model's window, or else all that it holds. */
export function drawPicture(canvas, { data, width, height }, { window }) {
  const wide = data instanceof Uint16Array;
  const [low, high] = wide ? (window ?? range(data)) : [0, 255];
  const image = new ImageData(width, height);
  for (let from = 0, to = 0; from < data.length; from += 3, to += 4) {
    for (let channel = 0; channel < 3; channel++) {
      image.data[to + channel] = (255 * (data[from + channel] - low)) / (high - low);
    }
    image.data[to + 3] = 255;
  }
  const whole = new OffscreenCanvas(width, height);
  whole.getContext('2d').putImageData(image, 0, 0);
  const scale = Math.min(1, LONGEST / Math.max(width, height));
  canvas.width = Math.max(1, Math.round(width * scale));
  canvas.height = Math.max(1, Math.round(height * scale));
  canvas.getContext('2d').drawImage(whole, 0, 0, canvas.width, canvas.height);
}

/**
 * Return the heat over a picture, {data in [0, 1], width, height}, from `saliency` {data, rows, columns}; null where
 * nothing speaks for the class. Its cells lie over the network's input, a letterbox's padding included.
 */
export function heatOver({ data, rows, columns }, { width, height }, input) {
  const [innerHeight, innerWidth] = inner(width, height, input);
  const down = taps(rows, input.height, innerHeight, height);
  const across = taps(columns, input.width, innerWidth, width);
  const found = new Float32Array(width * height);
  down.forEach(([top, bottom, below], y) => {
    across.forEach(([left, right, beside], x) => {
      const cell = (row, column) => data[row * columns + column];
      const upper = cell(top, left) * (1 - beside) + cell(top, right) * beside;
      const lower = cell(bottom, left) * (1 - beside) + cell(bottom, right) * beside;
      found[y * width + x] = Math.max(0, upper * (1 - below) + lower * below);
    });
  });
  const most = found.reduce((largest, value) => Math.max(largest, value), 0);
  return most > 0 ? { data: found.map((value) => value / most), width, height } : null;
}

/** Lay a heat over what a canvas shows; strength in [0, 1]. */
export function drawHeat(canvas, heat, strength) {
  const image = new ImageData(heat.width, heat.height);
  heat.data.forEach((value, pixel) => {
    const place = Math.min(value, 1) * (STOPS.length - 1);
    const first = Math.min(Math.floor(place), STOPS.length - 2);
    STOPS[first].forEach((from, channel) => {
      image.data[4 * pixel + channel] = from + (STOPS[first + 1][channel] - from) * (place - first);
    });
    image.data[4 * pixel + 3] = 255 * strength * Math.sqrt(Math.min(value, 1));
  });
  const layer = new OffscreenCanvas(heat.width, heat.height);
  layer.getContext('2d').putImageData(image, 0, 0);
  canvas.getContext('2d').drawImage(layer, 0, 0);
}

/** Return the smallest value, and the largest where it differs. */
function range(data) {
  const low = data.reduce((least, value) => Math.min(least, value), 65535);
  const high = data.reduce((most, value) => Math.max(most, value), 0);
  return [low, Math.max(high, low + 1)];
}

/** Return the height and width that a picture takes of the network's input, by integer arithmetic as in training. */
function inner(width, height, input) {
  if (input.resize !== 'letterbox') return [input.height, input.width];
  if (input.width * height <= input.height * width) {
    return [Math.max(1, Math.floor((height * input.width + Math.floor(width / 2)) / width)), input.width];
  }
  return [input.height, Math.max(1, Math.floor((width * input.height + Math.floor(height / 2)) / height))];
}

/** Return for each pixel of a side [cell, next cell, share of the next]; the side takes `inside` of `total`. */
function taps(cells, total, inside, length) {
  const before = Math.floor((total - inside) / 2);
  return Array.from({ length }, (_, pixel) => {
    const middle = ((before + ((pixel + 0.5) * inside) / length) * cells) / total - 0.5;
    const place = Math.min(Math.max(middle, 0), cells - 1);
    const cell = Math.floor(place);
    return [cell, Math.min(cell + 1, cells - 1), place - cell];
  });
}
