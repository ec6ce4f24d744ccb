"use strict";
// One page, no library: it asks this server alone, for /v1/models and /v1/predict.
const at = (id) => document.getElementById(id);
const KEY = "imaging_ft.key";
const SHOWN = ["image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif"];
let cards = [];
let turn = 0;
let last = null;

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
  if (answer.status === 401) at("entry").hidden = false;
  if (!answer.ok) throw new Error(values.error || `The server answered ${answer.status}.`);
  at("entry").hidden = true;
  return values;
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

async function start() {
  try {
    cards = await ask("/v1/models");
  } catch (error) {
    say(error.message, true);
    return;
  }
  at("model").replaceChildren(...cards.map((card) => element("option", card.name)));
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
    "rejects": card.ood || card.quality ? "what is unlike its training images, or is no picture" : "nothing",
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
  const wanted = ["balanced_accuracy", "accuracy", "auroc"];
  const found = wanted.filter((name) => values && values[name] !== undefined && values[name] !== null);
  return found.map((name) => `${name.replace("_", " ")} ${number(values[name])}`).join(", ") || "not stated";
}

function number(value) {
  return Number(typeof value === "object" ? value.value : value).toFixed(3);
}

function percent(value) {
  return typeof value === "number" ? `${(100 * value).toFixed(1)}%` : "undefined";
}

async function predict(file) {
  last = file;
  const own = ++turn;
  const form = new FormData();
  form.append("image", file);
  say(`Asking about ${file.name || "the picture"} …`);
  try {
    const query = new URLSearchParams({ model: current().name, heatmap: "true" });
    const found = await ask(`/v1/predict?${query}`, { method: "POST", body: form });
    if (own === turn) draw(file, found);
  } catch (error) {
    if (own !== turn) return;
    at("result").hidden = true;
    say(error.message, true);
  }
}

function draw(file, found) {
  const [one] = found.predictions;
  const visible = SHOWN.includes(file.type);
  URL.revokeObjectURL(at("picture").src);
  at("picture").hidden = !visible;
  if (visible) {
    at("picture").src = URL.createObjectURL(file);
    at("picture").alt = `The image ${file.name}`;
  }
  at("stage").classList.toggle("bare", !visible);
  at("heat").hidden = at("fade").hidden = !one.heatmap;
  if (one.heatmap) {
    at("heat").src = one.heatmap;
    at("heat").alt = "Where the evidence for this class lies: the brighter, the stronger";
  }
  at("caption").textContent = visible ? file.name : `${file.name}: browsers can't show this kind; ${one.heatmap ? "this is the heat map alone." : "the answer is all there is."}`;
  fade();
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
  draw("line", { class: "mark", x1: 100 * threshold, x2: 100 * threshold, y1: 0, y2: 10, "vector-effect": "non-scaling-stroke" });
  cell.append(svg);
  row.append(element("th", name + (said ? " ✓" : ""), { scope: "row" }), element("td", percent(value), { class: "number" }), cell);
  return row;
}

function fade() {
  at("heat").style.setProperty("opacity", at("stage").classList.contains("bare") ? 1 : at("opacity").value / 100);
}

at("file").addEventListener("change", () => at("file").files[0] && predict(at("file").files[0]));
at("opacity").addEventListener("input", fade);
at("model").addEventListener("change", () => { show(); if (last) predict(last); });
at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, at("key").value.trim());
  at("key").value = "";
  start().then(() => last && predict(last));
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
