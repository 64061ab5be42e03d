// A bundle, fetched from beside this page, held against its digest, its signature and its golden rows.

import {encodeRows} from "./encoding.js";
import * as ort from "./ort/ort.js";

// Answers of one graph on two machines may differ in the last bits.
const TOLERANCE = 1e-4;
const ROWS_AT_ONCE = 2000;

export class Bundle {
  // about: who it is, from about.json.
  constructor(about, files) {
    this.about = about;
    this.files = files;
    this.signature = json(files.get("signature.json"));
    this.golden = json(files.get("golden.json"));
    this.reference = json(files.get("reference.json"));
    this.known = new Map(Object.entries(about.known).map(([name, texts]) => [name, new Set(texts)]));
  }

  static async fetched() {
    const about = json(await bytes("model/about.json"));
    const names = about.files;
    const contents = await Promise.all(names.map((name) => bytes(`model/${name}`)));
    return new Bundle(about, new Map(names.map((name, place) => [name, contents[place]])));
  }

  // Returns a column's commonest values in training.
  top(name) {
    const column = this.reference.columns.find((each) => each.name === name);
    return (column?.top ?? []).map((share) => share.value);
  }

  // Returns {state, words}: "good", "unchecked" where this browser can't check, or "bad".
  async checked() {
    const subtle = globalThis.crypto?.subtle;
    const {digest, verify_key: key, signature} = this.about;
    if (subtle === undefined) {
      const words = "this browser checks digests and signatures on pages from https:// or localhost only";
      return {state: key ? "bad" : "unchecked", words};
    }
    const names = [...this.files.keys()].sort();
    const digests = new Map();
    for (const name of names) digests.set(name, hex(await subtle.digest("SHA-256", this.files.get(name))));
    const whole = names.map((name) => `${name}\0${digests.get(name)}\0`).join("");
    const found = hex(await subtle.digest("SHA-256", utf8(whole))).slice(0, 32);
    if (found !== digest) return {state: "bad", words: `the files were altered: their digest is ${found}`};
    if (!key) return {state: "good", words: "the files have the bundle's digest; no key is set"};
    const statement = ["treadle bundle 1", ...names.map((name) => `${name} ${digests.get(name)}`).sort()]
      .map((line) => `${line}\n`).join("");
    return signed(subtle, key, signature, utf8(statement));
  }

  async load() {
    ort.env.wasm.numThreads = 1; // more would need a server that isolates the page
    ort.env.wasm.wasmPaths = {wasm: new URL("ort/ort.wasm", document.baseURI).href};
    const options = {executionProviders: ["wasm"], logSeverityLevel: 3};
    this.session = await ort.InferenceSession.create(this.files.get("model.onnx"), options);
    // The last output is the one of numbers.
    this.output = this.session.outputNames.at(-1);
  }

  // Returns {answers, faults}: an answer a row, null for one that can't be read.
  async predict(rows, told = () => {}) {
    const answers = [], faults = [];
    for (let begin = 0; begin < rows.length; begin += ROWS_AT_ONCE) {
      const some = rows.slice(begin, begin + ROWS_AT_ONCE);
      const encoded = encodeRows(some, this.signature.features);
      const bad = new Set(encoded.faults.map((fault) => fault.row));
      faults.push(...encoded.faults.map((fault) => ({...fault, row: fault.row + begin})));
      const found = await this.run(encoded.columns, some.length);
      answers.push(...found.map((answer, row) => (bad.has(row) ? null : answer)));
      told(Math.min(rows.length, begin + ROWS_AT_ONCE));
      await new Promise((resolve) => setTimeout(resolve)); // the page stays alive
    }
    return {answers, faults};
  }

  async run(columns, count) {
    const feeds = {};
    for (const [name, column] of columns) {
      const kind = Array.isArray(column) ? "string" : column instanceof Float64Array ? "float64" : "float32";
      feeds[name] = new ort.Tensor(kind, column, [count, 1]);
    }
    const {[this.output]: {data}} = await this.session.run(feeds, [this.output]);
    const classes = this.signature.classes;
    if (!classes.length) return Array.from(data, (value) => ({prediction: value}));
    return Array.from({length: count}, (_, row) => {
      const shares = Array.from(data.slice(row * classes.length, (row + 1) * classes.length));
      const best = shares.indexOf(Math.max(...shares));
      return {prediction: classes[best],
        probabilities: Object.fromEntries(classes.map((name, place) => [name, shares[place]]))};
    });
  }

  // Returns a line a golden row: {expected, got, same}.
  async proof() {
    const {answers} = await this.predict(this.golden.rows);
    return this.golden.answers.map((expected, row) => (
      {expected, got: answers[row], same: answers[row] !== null && same(expected, answers[row])}));
  }
}

function same(one, other) {
  if (typeof one.prediction !== "string") return close(one.prediction, other.prediction);
  return one.prediction === other.prediction && Object.entries(one.probabilities)
    .every(([name, share]) => close(share, other.probabilities[name]));
}

function close(one, other) {
  return Math.abs(one - other) <= TOLERANCE * Math.max(1, Math.abs(one), Math.abs(other));
}

async function signed(subtle, key, signature, statement) {
  const raw = (text) => Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  let good;
  try {
    const imported = await subtle.importKey("spki", raw(key), {name: "Ed25519"}, false, ["verify"]);
    good = await subtle.verify({name: "Ed25519"}, imported, raw(signature ?? ""), statement);
  } catch (error) {
    return {state: "bad", words: `this browser can't check ed25519 signatures (${error.message})`};
  }
  return good ? {state: "good", words: "the files have the bundle's digest and are signed with the key"}
    : {state: "bad", words: "the bundle isn't signed with the key that this page was made with"};
}

async function bytes(path) {
  // A browser may keep a file of an earlier export: it is to ask whether that still holds.
  const answer = await fetch(path, {cache: "no-cache"});
  if (!answer.ok) throw new Error(`${path} can't be read: ${answer.status} ${answer.statusText}`);
  return new Uint8Array(await answer.arrayBuffer());
}

const json = (content) => JSON.parse(new TextDecoder().decode(content));
const utf8 = (text) => new TextEncoder().encode(text);
const hex = (buffer) => Array.from(new Uint8Array(buffer), (byte) => byte.toString(16).padStart(2, "0")).join("");
