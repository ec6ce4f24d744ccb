"use strict";
// One page, no library: it asks this server alone, for /v1/models and /v1/predict.
const at = (id) => document.getElementById(id);
const KEY = "imaging_ft.key";
let cards = [];
let turn = 0;
let last = null;
let mapped = false;

function say(text, wrong = false) {
  at("status").textContent = text;
  at("status").classList.toggle("wrong", wrong);
}

async function ask(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = key ? { Authorization: `Bearer ${key}` } : {};
  let answer;
  try {
    answer = await fetch(path, { ...options, headers });
  } catch {
    throw new Error("The server can't be reached.");
  }
  const values = await answer.json().catch(() => ({}));
  if (answer.status === 401) {
    at("entry").hidden = false;
    at("key").focus();
  }
  if (!answer.ok) throw new Error(values.error || `The server answered ${answer.status}.`);
  at("entry").hidden = true;
  return values;
}

function busy(now) {
  document.querySelector("main").setAttribute("aria-busy", now);
}

// A long name may be broken after an underscore.
function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.append(...String(text).split(/(?<=_)/).flatMap((part, place) => place ? [document.createElement("wbr"), part] : [part]));
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

async function start() {
  const chosen = at("model").value;
  try {
    cards = await ask("/v1/models");
  } catch (error) {
    cards = [];
    say(error.message, true);
    return;
  } finally {
    busy(false);
  }
  at("model").replaceChildren(...cards.map((card) => new Option(card.name)));
  if (cards.some((card) => card.name === chosen)) at("model").value = chosen;
  at("choice").hidden = cards.length < 2;
  if (!cards.length) return say("No model is served.", true);
  if (!last) say("No image yet.");
  show();
}

function current() {
  return cards.find((card) => card.name === at("model").value) || cards[0];
}

function show() {
  const card = current();
  at("title").textContent = card.name;
  document.title = card.name;
  at("intended").textContent = `Intended use: ${card.intended_use || "not stated"}`;
  const spec = card.input;
  const facts = {
    "decides": card.task === "multilabel" ? "any classes that reach their thresholds, or none" : "one class an image, the most probable",
    "classes": card.labels.map((label) => label.name).join(", "),
    "looks at": `${spec.channels === 1 ? "gray" : "RGB"}, ${spec.width} × ${spec.height} pixels after its own resize`,
    "rejects": [card.quality && "too dark, too bright, blank or clipped images", card.ood && "what is unlike its training images"].filter(Boolean).join(", ") || "nothing",
    "trained on": card.dataset || "not stated",
    "validation": figures(card.metrics && card.metrics.validation),
    "equal to what was trained": `on ${card.parity.images} images`,
    "computes in": `${card.graph.precision} on ${card.device}`,
    "SHA-256": card.sha256,
  };
  at("facts").replaceChildren(...Object.entries(facts).flatMap(([name, value]) => [element("dt", name), element("dd", value)]));
  at("card").hidden = false;
  const report = card.report;
  at("worst").hidden = !report;
  if (!report) return;
  at("measured").textContent = `${report.dataset}: clean ${percent(report.clean && report.clean.value)}, n = ${report.n}`;
  at("cells").replaceChildren(...report.worst.map((cell) => {
    const row = document.createElement("tr");
    const named = Object.entries(cell.conditions).map(([name, severity]) => `${name} ${severity}`).join(" × ");
    row.append(element("th", named, { scope: "row" }), element("td", percent(cell.value)),
      element("td", `${percent(cell.low)} to ${percent(cell.high)}`), element("td", cell.n));
    return row;
  }));
}

function figures(values) {
  if (!values) return "not stated";
  const found = ["balanced_accuracy", "accuracy", "auroc"].filter((name) => typeof values[name] === "number");
  const said = found.map((name) => `${name.replace("_", " ")} ${values[name].toFixed(3)}`).join(", ");
  return said && values.n ? `${said}; n = ${values.n}` : said || "not stated";
}

function percent(value) {
  return typeof value === "number" ? `${(100 * value).toFixed(1)}%` : "not defined";
}

async function predict(file) {
  last = file;
  const own = ++turn;
  const form = new FormData();
  form.append("image", file);
  say(`Asking about ${file.name || "the picture"} …`);
  busy(true);
  try {
    const card = current();
    if (!card) throw new Error("No model is served.");
    const query = new URLSearchParams({ model: card.name, heatmap: at("wanted").checked });
    const found = await ask(`/v1/predict?${query}`, { method: "POST", body: form });
    const picture = new Image();
    picture.src = URL.createObjectURL(file);
    const visible = await picture.decode().then(() => true, () => false);
    if (own === turn) draw(file, found, card, visible ? picture : null);
    else URL.revokeObjectURL(picture.src);
  } catch (error) {
    if (own !== turn) return;
    at("result").hidden = true;
    say(error.message, true);
  } finally {
    if (own === turn) busy(false);
  }
}

function draw(file, found, card, picture) {
  const [one] = found.predictions;
  const named = file.name || "pasted";
  URL.revokeObjectURL(at("picture").src);
  at("picture").hidden = !picture;
  if (picture) at("picture").src = picture.src;
  else at("picture").removeAttribute("src");
  at("picture").alt = `The image ${named}`;
  at("stage").classList.toggle("bare", !picture);
  mapped = Boolean(one.heatmap);
  if (mapped) {
    at("heat").src = one.heatmap;
    at("heat").alt = "Where the evidence for this class lies: the brighter, the stronger";
  } else {
    at("heat").removeAttribute("src");
  }
  at("caption").textContent = picture ? named : `${named}: browsers can't show this kind; ${mapped ? "this is the heat map alone." : "the answer is all there is."}`;
  fade();
  at("rule").textContent = one.status !== "ok" ? "Probability of each class; the mark is its threshold."
    : card.task === "multilabel" ? "A class is said to be there where its probability reaches its threshold, the mark."
    : "The most probable class is the answer. The marks are thresholds, for software that decides by them.";
  const said = one.status === "ok" ? one.labels.join(", ") || "none of its classes" : "No answer: rejected";
  at("verdict").textContent = one.status === "ok" && one.labels.length === 1 ? `${said}, ${percent(one.probability)}` : said;
  at("verdict").classList.toggle("rejected", one.status !== "ok");
  at("reason").textContent = one.reason ? `This image is ${one.reason}. What the network would have said is below, and not to be relied on.` : "";
  const order = Object.entries(one.probabilities).sort((a, b) => b[1] - a[1]);
  at("bars").tBodies[0].replaceChildren(...order.map(([name, value]) => bar(name, value, one.thresholds[name], one.labels.includes(name))));
  at("times").textContent = `${(1000 * found.seconds.compute).toFixed(1)} ms on the network, ${(1000 * found.seconds.queue).toFixed(1)} ms waiting; request ${found.request_id}`;
  at("result").hidden = false;
  say(`Done: ${at("verdict").textContent}.`);
}

function bar(name, value, threshold, said) {
  const row = document.createElement("tr");
  row.classList.toggle("said", said);
  const cell = document.createElement("td");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "bar");
  svg.setAttribute("viewBox", "0 0 100 10");
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("aria-hidden", "true");
  const draw = (kind, attributes) => {
    const made = document.createElementNS(svg.namespaceURI, kind);
    for (const [key, to] of Object.entries(attributes)) made.setAttribute(key, to);
    svg.append(made);
  };
  draw("rect", { class: "track", width: 100, height: 10 });
  draw("rect", { class: "fill", width: 100 * value, height: 10 });
  for (const kind of ["edge", "mark"]) {
    draw("line", { class: kind, x1: 100 * threshold, x2: 100 * threshold, y1: 0, y2: 10, "vector-effect": "non-scaling-stroke" });
  }
  cell.append(svg, element("span", percent(threshold), { class: "unseen" }));
  const head = element("th", name, { scope: "row" });
  if (said) head.append(" ", element("span", "✓", { role: "img", "aria-label": "is said to be there" }));
  row.append(head, element("td", percent(value), { class: "number" }), cell);
  return row;
}

function fade() {
  const shown = mapped && at("wanted").checked;
  at("heat").hidden = !shown;
  at("fade").hidden = !shown || at("stage").classList.contains("bare");
  at("opacity").setAttribute("aria-valuetext", `${at("opacity").value}%`);
  at("heat").style.setProperty("opacity", at("stage").classList.contains("bare") ? 1 : at("opacity").value / 100);
}

at("file").addEventListener("change", () => at("file").files[0] && predict(at("file").files[0]));
at("opacity").addEventListener("input", fade);
at("wanted").addEventListener("change", () => {
  fade();
  if (at("wanted").checked && !mapped && last) predict(last);
});
at("model").addEventListener("change", () => { show(); if (last) predict(last); });
at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const key = at("key").value.trim();
  at("key").value = "";
  if (!/^[ -~]+$/.test(key)) return say(key ? "This is no API key: a key is in ASCII." : "Write an API key first.", true);
  sessionStorage.setItem(KEY, key);
  start().then(() => cards.length && last && predict(last));
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop" && event.dataTransfer.files[0]) predict(event.dataTransfer.files[0]);
  });
}
addEventListener("paste", (event) => event.clipboardData.files[0] && predict(event.clipboardData.files[0]));
start();
