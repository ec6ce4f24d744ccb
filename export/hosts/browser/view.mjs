/** What the page shows of a model and of what it says. */

export function byId(id) {
  return document.getElementById(id);
}

/** Show what a model is, so that a person can tell one from another. */
export async function showModel(bundle, bytes) {
  const { input, provenance } = bundle;
  const colour = input.channels === 1 ? 'gray' : 'RGB';
  const facts = {
    'Intended use': bundle.intended_use ?? 'not stated',
    Task: bundle.task,
    Input: `${colour}, ${input.dtype}; the network sees ${input.width} × ${input.height}, ${input.resize}`,
    Precision: bundle.graph?.precision ?? 'fp32',
    Made: [provenance?.created, provenance?.tool].filter(Boolean).join(', ') || 'not stated',
    'SHA-256': await sha256(bytes),
  };
  byId('facts').replaceChildren(
    ...Object.entries(facts).flatMap(([name, value]) => [element('dt', name), element('dd', value)]),
  );
  byId('about').hidden = false;
}

/** Show a label, its probability, and every class with its threshold. */
export function showSaid({ label, probability, present }, { probabilities, bundle, picture, time }) {
  byId('label').textContent = label.replaceAll('|', ', ') || 'nothing found';
  byId('probability').textContent = probability.toFixed(3);
  byId('probability').dataset.value = probability;
  byId('time').textContent = `${time.toFixed(1)} ms; ${picture.width} × ${picture.height} pixels`;
  byId('rule').textContent =
    bundle.task === 'multilabel'
      ? 'Each class that reaches its threshold is present: several, one or none.'
      : 'The largest probability decides. A threshold is for who would rather have an alarm too many.';
  byId('classes').replaceChildren(
    ...bundle.labels.map(({ name }, at) => row(name, probabilities[at], bundle.thresholds[name], present[at])),
  );
}

function row(name, probability, threshold, isPresent) {
  const line = element('tr', '', isPresent ? 'present' : '');
  const bar = element('span', '', 'bar');
  const [filled, mark] = [element('i'), element('b')];
  filled.style.width = `${100 * probability}%`;
  mark.style.left = `calc(${100 * threshold}% - 1px)`;
  bar.append(filled, mark);
  bar.ariaHidden = 'true'; // the numbers say the same
  const first = element('td', name);
  first.append(bar);
  line.append(first, element('td', probability.toFixed(3), 'number'), element('td', threshold.toFixed(3), 'number'));
  return line;
}

function element(kind, text = '', className = '') {
  const made = document.createElement(kind);
  made.textContent = text;
  made.className = className;
  return made;
}

/** Return the SHA-256 of bytes in hexadecimal; a page that came over plain http from elsewhere can't compute it. */
async function sha256(bytes) {
  if (!globalThis.crypto?.subtle) return 'not computed: needs https or localhost';
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}
