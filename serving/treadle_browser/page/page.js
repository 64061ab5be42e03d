// The page: a form made from the signature, a table of rows, and the proof that it is the same model.

import {Bundle} from "./bundle.js";
import {readCsv, values, writeCsv} from "./csv.js";
import {category, NULL_CATEGORY} from "./encoding.js";

const $ = (selector) => document.querySelector(selector);
const SHOWN_ROWS = 10;
let bundle;

function make(tag, words, attributes = {}) {
  const node = document.createElement(tag);
  if (words !== undefined && words !== null) node.textContent = words;
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  return node;
}

const rounded = (value) => (typeof value === "number" ? String(Number(value.toPrecision(6))) : value);
const counted = (count, one, many) => `${count.toLocaleString("en")} ${count === 1 ? one : many}`;

async function start() {
  bundle = await Bundle.fetched();
  const {model, version, semver, digest, metric} = bundle.about;
  const {task, target} = bundle.signature;
  $("#about").textContent = `${target} (${task}) · ${metric ? `${metric}, ` : ""}version ${version} (${semver}), `
    + `bundle ${digest.slice(0, 12)}`;
  document.title = `${model} ${semver}`;
  const checked = await bundle.checked();
  $("#integrity").textContent = checked.words;
  $("#integrity").className = {good: "good", bad: "bad", unchecked: "soft"}[checked.state];
  if (checked.state === "bad") throw new Error(`the model isn't used: ${checked.words}`);
  await bundle.load();
  const wrong = await prove();
  if (wrong) throw new Error(`the model isn't used: ${counted(wrong, "golden row is", "golden rows are")} answered otherwise here`);
  fill();
  $("main").hidden = false;
  $("#state").className = "good";
  $("#state").textContent = "ready: the model runs in this page, and answers its golden rows as it did where it was made";
}

async function prove() {
  const lines = await bundle.proof();
  $("#golden tbody").replaceChildren(...lines.map((line, place) => {
    const row = make("tr");
    const said = ({prediction, probabilities}) => (probabilities
      ? `${prediction} (${(100 * probabilities[prediction]).toFixed(2)} %)` : rounded(prediction));
    row.append(make("td", place), make("td", said(line.expected)), make("td", line.got ? said(line.got) : "unreadable"),
      make("td", line.same ? "✓ same" : "✗ differs", {class: line.same ? "good" : "bad"}));
    return row;
  }));
  return lines.filter((line) => !line.same).length;
}

// One row

function fill() {
  const example = bundle.golden.rows.at(-1);
  const fields = bundle.signature.features.map((feature) => field(feature, example[feature.name], bundle.top(feature.name)));
  const actions = make("div", null, {class: "actions"});
  actions.append(make("button", "predict", {class: "first"}));
  $("#form").replaceChildren(...fields, actions);
  $("#form").onsubmit = (event) => { event.preventDefault(); answer().catch(fail); };
}

function field(feature, value, choices) {
  const label = make("label", feature.name);
  let input;
  if (feature.kind === "boolean") {
    input = make("select");
    for (const each of ["", "true", "false"]) input.append(make("option", each || "unknown", {value: each}));
  } else {
    input = make("input", null, {type: "text", autocomplete: "off",
      placeholder: feature.kind === "time" ? "unknown, or 2024-12-31T23:59" : "unknown"});
    if (feature.kind === "number") input.inputMode = "decimal";
    if (feature.kind === "category" && choices?.length) {
      const id = `choices-${bundle.signature.features.indexOf(feature)}`;
      const offered = make("datalist", null, {id});
      offered.append(...choices.map((choice) => make("option", null, {value: choice})));
      input.setAttribute("list", id);
      label.append(offered);
    }
  }
  input.value = value === null || value === undefined ? "" : String(value);
  input.name = feature.name;
  label.append(input, make("small"));
  return label;
}

function note(name, words, kind) {
  const label = [...$("#form").elements].find((each) => each.name === name).closest("label");
  label.classList.add(kind);
  label.querySelector("small").textContent = words;
}

async function answer() {
  const row = {};
  for (const label of $("#form").querySelectorAll("label")) {
    label.classList.remove("fault", "note");
    label.querySelector("small").textContent = "";
    const input = label.querySelector("input,select");
    row[input.name] = input.value.trim() === "" ? null : input.value;
  }
  const {answers: [found], faults} = await bundle.predict([row]);
  for (const fault of faults) note(fault.column, fault.error, "fault");
  for (const [name, texts] of unseen([row])) note(name, `${[...texts.keys()][0]} was not seen in training`, "note");
  if (found === null) {
    $("#answer").replaceChildren(make("span", `${counted(faults.length, "value", "values")} can't be read`, {class: "bad"}));
    return;
  }
  const nodes = [make("b", rounded(found.prediction))];
  for (const [name, share] of Object.entries(found.probabilities ?? {})) {
    const bar = make("div", null, {class: "bar"});
    bar.append(make("span", name), make("progress", null, {value: share, max: 1}), make("span", share.toFixed(4)));
    nodes.push(bar);
  }
  $("#answer").replaceChildren(...nodes);
}

// Returns the categories of rows that training didn't know: column to text to count.
function unseen(rows) {
  const found = new Map();
  for (const {name} of bundle.signature.features) {
    const known = bundle.known.get(name);
    if (known === undefined) continue;
    const texts = new Map();
    for (const row of rows) {
      const text = category(row[name] ?? null);
      if (text !== NULL_CATEGORY && !known.has(text)) texts.set(text, (texts.get(text) ?? 0) + 1);
    }
    if (texts.size) found.set(name, texts);
  }
  return found;
}

// A table

async function score(file) {
  const place = $("#scored");
  place.replaceChildren(make("p", `reading ${file.name} …`));
  const table = readCsv(new Uint8Array(await file.arrayBuffer()));
  const lacking = bundle.signature.features.map((feature) => feature.name).filter((name) => !table.names.includes(name));
  if (lacking.length) {
    throw new Error(`${file.name} lacks columns that the model reads: ${listed(lacking)} (it has ${listed(table.names)})`);
  }
  const {rows, notes} = read(table);
  const {answers, faults} = await bundle.predict(rows, (done) => {
    place.replaceChildren(make("p", `${done.toLocaleString("en")} of ${counted(rows.length, "row", "rows")} …`));
  });
  report(file.name, table, rows, answers, faults, notes);
}

// Returns the table's rows as the model reads them, and what is worth saying about how.
function read(table) {
  const notes = [];
  const features = bundle.signature.features;
  const extra = table.names.filter((name) => !features.some((feature) => feature.name === name));
  if (extra.length) notes.push(`${counted(extra.length, "column that the model doesn't read was", "columns that the model doesn't read were")} ignored: ${listed(extra)}`);
  if (table.encoding !== "utf-8") notes.push(`read as ${table.encoding}`);
  const nulls = [];
  const rows = table.cells.map(() => ({}));
  for (const feature of features) {
    const {name} = feature;
    const column = table.names.indexOf(name);
    const found = values(table.cells.map((cells) => cells[column]), feature, new Set(bundle.top(name)));
    found.forEach((value, place) => { rows[place][name] = value; });
    const count = found.filter((value) => value === null).length;
    if (count) nulls.push(`${name} ${count.toLocaleString("en")}`);
  }
  if (nulls.length) notes.push(`rows without a value: ${nulls.join(", ")}`);
  for (const [name, texts] of unseen(rows)) {
    const count = [...texts.values()].reduce((sum, each) => sum + each, 0);
    notes.push(`${name}: ${counted(count, "row has", "rows have")} a category that training didn't see; the model takes it as its spec says (unseen): ${listed([...texts.keys()])}`);
  }
  return {rows, notes};
}

function report(name, table, rows, answers, faults, notes) {
  const classes = bundle.signature.classes;
  const added = ["prediction", ...classes.map((label) => `probability_${label}`)];
  const line = (row) => [answers[row].prediction, ...classes.map((label) => answers[row].probabilities[label])];
  const good = answers.flatMap((found, row) => (found ? [row] : []));
  const nodes = [make("p", `${counted(good.length, "prediction", "predictions")} for ${name}`)];
  const actions = make("div", null, {class: "actions"});
  const stem = name.replace(/\.[^.]*$/, "");
  actions.append(download(`${stem}.scored.csv`, writeCsv([...table.names, ...added], good.map((row) => [...table.cells[row], ...line(row)])), "first"));
  const reasons = new Map();
  for (const fault of faults) reasons.set(fault.row, [...(reasons.get(fault.row) ?? []), `${fault.column}: ${fault.error}`]);
  if (reasons.size) {
    notes.push(`${counted(reasons.size, "row doesn't fit and was", "rows don't fit and were")} set aside; the first: row ${faults[0].row}, ${faults[0].column}: ${faults[0].error}`);
    actions.append(download(`${stem}.rejects.csv`, writeCsv([...table.names, "rejected_row", "rejected_because"],
      [...reasons].map(([row, words]) => [...table.cells[row], row, words.join("; ")])), ""));
  }
  nodes.push(actions);
  if (notes.length) {
    const list = make("ul");
    list.append(...notes.map((words) => make("li", words)));
    nodes.push(list);
  }
  nodes.push(preview(table, good.slice(0, SHOWN_ROWS), added, line));
  $("#scored").replaceChildren(...nodes);
}

function preview(table, places, added, line) {
  const box = make("div", null, {class: "scroll"});
  const shown = make("table");
  const head = make("tr");
  head.append(...["row", ...added].map((name) => make("th", name)));
  const lines = places.map((row) => {
    const cells = make("tr");
    cells.append(...[row, ...line(row)].map((cell) => make("td", rounded(cell))));
    return cells;
  });
  shown.append(head, ...lines);
  box.append(shown);
  return box;
}

function download(name, text, kind) {
  const href = URL.createObjectURL(new Blob([text], {type: "text/csv"}));
  return make("a", `download ${name}`, {href, download: name, class: `button ${kind}`});
}

const listed = (names) => names.slice(0, 8).join(", ") + (names.length > 8 ? ` and ${names.length - 8} more` : "");

function fail(error) {
  $("#state").className = "bad";
  $("#state").textContent = error.message;
}

function failTable(error) { $("#scored").replaceChildren(make("p", error.message, {class: "bad"})); }

$("#file").addEventListener("change", (event) => {
  const [file] = event.target.files;
  if (file) score(file).catch(failTable);
  event.target.value = "";
});
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    $("#drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    const [file] = kind === "drop" ? event.dataTransfer.files : [];
    if (file) score(file).catch(failTable);
  });
}
start().catch(fail);
