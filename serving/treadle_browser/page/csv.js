// Reads a CSV file, and its columns as treadle/ingestion reads them: a column's type is the first that
// every value fits, so that a category that is a number is known by the same text as in training.

const NULL_WORDS = new Set(["", "NA", "NULL", "null"]);
// In columns that are otherwise numbers, booleans or times, these mean no value too.
const NULL_SIGNS = new Set(["N/A", "n/a", "#N/A", "nan", "NaN", "NAN", "None", "none", "Null", "-",
  "--", "?", "\\N", "<NA>", "NaT"]);
const TRUE = new Set(["true", "True", "TRUE"]);
const FALSE = new Set(["false", "False", "FALSE"]);
const INTEGER = /^-?\d+$/;
const NUMBER = /^-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?$/;
const DELIMITERS = [",", ";", "\t", "|"];
// Decimal mark, and what stands between thousands.
const MARKS = [[".", ","], [",", "."], [",", ""], [",", " "], [".", " "], [".", "'"], [",", "\u00a0"],
  [",", "\u202f"]];

// Returns {names, cells: array of arrays of texts, delimiter, encoding} of a file's bytes. Throws
// Error, in words, for one that can't be read.
export function readCsv(bytes) {
  const {text, encoding} = decoded(bytes);
  const end = text.search(/[\r\n]/);
  const head = end < 0 ? text : text.slice(0, end);
  const counts = DELIMITERS.map((each) => head.split(each).length);
  const delimiter = DELIMITERS[counts.indexOf(Math.max(...counts))];
  const [names, ...cells] = parsed(text, delimiter);
  if (names === undefined) throw new Error("the file is empty");
  if (cells.length === 0) throw new Error("the file has a first line with names, and no rows");
  const twice = names.find((name, place) => names.indexOf(name) !== place);
  if (twice !== undefined) throw new Error(`the file has two columns ${JSON.stringify(twice)}`);
  cells.forEach((row, place) => {
    if (row.length !== names.length) {
      throw new Error(`row ${place} has ${row.length} values, the first line has ${names.length} names`);
    }
  });
  return {names, cells, delimiter, encoding};
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
  const endCell = () => { row.push(cell); cell = ""; wasQuoted = false; };
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

// Returns the values of a column, as the model's feature of that kind wants them, and how they were
// read, where that isn't plain.
export function values(texts, kind) {
  const isEmpty = (text) => NULL_WORDS.has(text.trim());
  const isSign = (text) => isEmpty(text) || NULL_SIGNS.has(text.trim());
  const present = texts.filter((text) => !isSign(text)).map((text) => text.trim());
  const all = (test) => present.every(test);
  const each = (read) => texts.map((text) => (isSign(text) ? null : read(text.trim())));
  const isNumber = all((text) => NUMBER.test(text));
  if (kind === "category") {
    if (all((text) => INTEGER.test(text))) return {values: each(BigInt)};
    if (isNumber) return {values: each(Number)};
    if (all((text) => TRUE.has(text) || FALSE.has(text))) return {values: each((text) => TRUE.has(text))};
    return {values: texts.map((text) => (isEmpty(text) ? null : text))};
  }
  if (kind === "number" && !isNumber) {
    const marks = MARKS.find((pair) => present.length && all(marked(...pair)));
    if (marks) {
      const [decimal, thousands] = marks;
      const plain = (text) => (thousands ? text.replaceAll(thousands, "") : text).replace(decimal, ".");
      const words = `numbers with decimal mark '${decimal}'`
        + (thousands ? ` and thousands '${thousands}'` : "");
      return {values: each(plain), words};
    }
  }
  return {values: each((text) => text)};
}

function marked(decimal, thousands) {
  const escaped = (mark) => mark.replace(/[.]/g, "\\.");
  const whole = thousands ? `\\d{1,3}(?:${escaped(thousands)}\\d{3})*` : "\\d+";
  const pattern = new RegExp(`^[+-]?${whole}(?:${escaped(decimal)}\\d+)?$`);
  return (text) => pattern.test(text);
}

// Returns rows as CSV.
export function writeCsv(names, rows) {
  const quoted = (cell) => {
    const text = cell === null || cell === undefined ? "" : String(cell);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return [names, ...rows].map((row) => row.map(quoted).join(",")).join("\n") + "\n";
}
