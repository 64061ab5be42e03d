// Reads a CSV file as the model server does: every value is a text, and becomes what the signature says.

import {category, float} from "./encoding.js";

const NULLS = new Set(["", "NA", "NULL", "null"]);
// In columns that aren't categories, these mean no value too.
const SIGNS = new Set(["N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "None", "none", "Null", "-", "--", "?"]);
const DELIMITERS = [",", "\t", ";"];

// Returns {names, cells, encoding} of a file's bytes; a cell is a text, or null. Throws Error, in words,
// for one that can't be read.
export function readCsv(bytes) {
  const {text, encoding} = decoded(bytes);
  const end = text.search(/[\r\n]/);
  const head = end < 0 ? text : text.slice(0, end);
  const counts = DELIMITERS.map((each) => head.split(each).length);
  const delimiter = DELIMITERS[counts.indexOf(Math.max(...counts))];
  const [first, ...cells] = parsed(text, delimiter);
  const names = first?.map((name) => name ?? "");
  if (names === undefined) throw new Error("the file is empty");
  if (cells.length === 0) throw new Error("the file has a first line with names, and no rows");
  const twice = names.find((name, place) => names.indexOf(name) !== place);
  if (twice !== undefined) throw new Error(`the file has two columns ${JSON.stringify(twice)}`);
  cells.forEach((row, place) => {
    if (row.length !== names.length) {
      throw new Error(`row ${place} has ${row.length} values, the first line has ${names.length} names`);
    }
  });
  return {names, cells, encoding};
}

function decoded(bytes) {
  const utf16 = bytes[0] === 0xff && bytes[1] === 0xfe ? "utf-16le"
    : bytes[0] === 0xfe && bytes[1] === 0xff ? "utf-16be" : null;
  for (const encoding of utf16 ? [utf16] : ["utf-8", "windows-1252"]) {
    try {
      return {text: new TextDecoder(encoding, {fatal: true}).decode(bytes), encoding};
    } catch (error) {
      if (!(error instanceof TypeError)) throw error;
    }
  }
  throw new Error("the file is no text");
}

function parsed(text, delimiter) {
  const rows = [];
  let row = [], cell = "", quoted = false, wasQuoted = false;
  const endCell = () => {
    row.push(!wasQuoted && NULLS.has(cell) ? null : cell);
    cell = "";
    wasQuoted = false;
  };
  const endRow = () => {
    const blank = row.length === 0 && cell === "" && !wasQuoted;
    endCell();
    if (!blank) rows.push(row);
    row = [];
  };
  for (let place = 0; place < text.length; place += 1) {
    const character = text[place];
    if (quoted) {
      if (character !== '"') cell += character;
      else if (text[place + 1] === '"') { cell += '"'; place += 1; } else quoted = false;
    } else if (character === '"' && cell === "") { quoted = true; wasQuoted = true;
    } else if (character === delimiter) endCell();
    else if (character === "\n" || character === "\r") {
      if (character === "\r" && text[place + 1] === "\n") place += 1;
      endRow();
    } else cell += character;
  }
  if (quoted) throw new Error("a quote is opened and never closed");
  if (row.length || cell !== "" || wasQuoted) endRow();
  return rows;
}

// Returns a column's values as the model's feature wants them. ``known`` are its commonest categories.
export function values(cells, feature, known) {
  if (feature.kind !== "category") {
    return cells.map((cell) => (cell === null || SIGNS.has(cell.trim()) ? null : cell.trim()));
  }
  if (feature.tokens) return cells;
  return cells.map((cell) => (cell === null ? null : byNumber(cell, known)));
}

// 3.0 is 3 to a model that learned from numbers, and stays 3.0 to one that knows that.
function byNumber(text, known) {
  const number = known.has(text) ? null : float(text);
  const named = number === null ? text : category(number);
  return known.has(named) ? named : text;
}

// Returns rows as CSV.
export function writeCsv(names, rows) {
  const quoted = (cell) => {
    const text = cell === null || cell === undefined ? "" : String(cell);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
}
