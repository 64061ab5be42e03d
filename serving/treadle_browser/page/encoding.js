// Reads plain values as a model's features, as treadle/encoding.py does: what a value becomes here is
// what it becomes in training. tests/unit/test_browser.py holds the two against each other.

export const NULL_CATEGORY = "<null>";
const WORD_END = "_";
const BETWEEN_WORDS = /[^\p{L}\p{N}]+/gu;
const TRUE_WORDS = new Set(["true", "t", "yes", "y", "1"]);
const FALSE_WORDS = new Set(["false", "f", "no", "n", "0"]);
// The largest number that float32 rounds to a finite one.
const LARGEST = 3.4028235677973362e38;
// What Python takes for blanks around a number, and around a text; JavaScript's own idea differs.
const BLANKS = "\\t-\\r\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000";
const AROUND_NUMBER = new RegExp(`^[${BLANKS}]+|[${BLANKS}]+$`, "gu");
const AROUND_TEXT = new RegExp(`^[${BLANKS}\\x1c-\\x1f]+|[${BLANKS}\\x1c-\\x1f]+$`, "gu");
const DIGITS = "\\d(?:_?\\d)*";
const NUMBER = new RegExp(
  `^[+-]?(?:(?:${DIGITS})(?:\\.(?:${DIGITS})?)?|\\.${DIGITS})(?:[eE][+-]?${DIGITS})?$`);
const NOT_FINITE = /^[+-]?(?:inf|infinity|nan)$/i;
const TIME = new RegExp(
  "^(\\d{4})-(\\d{2})-(\\d{2})" +
  "(?:[ T](\\d{2}):(\\d{2})(?::(\\d{2})(?:[.](\\d{1,9}))?)?" +
  "(?:(Z)|([+-])(\\d{2})(?::(\\d{2}))?)?)?$");

// A value that can't be read as its feature.
class Unreadable extends Error {}

// Returns {columns: Map of name to Float32Array, Float64Array or array of texts, faults: [{row, column,
// error}]} of rows, each an object of values by column. One that is left out is null.
export function encodeRows(rows, features) {
  const columns = new Map();
  const faults = [];
  for (const feature of features) {
    columns.set(feature.name, encodeColumn(rows, feature, faults));
  }
  faults.sort((one, other) => one.row - other.row);
  return {columns, faults};
}

function encodeColumn(rows, feature, faults) {
  const {name, kind} = feature;
  const values = rows.map((row) => (Object.hasOwn(row, name) ? row[name] : null));
  if (kind === "category") {
    const tokens = feature.tokens ?? null;
    const texts = values.map(category);
    return tokens === null ? texts : texts.map((text) => tokenised(text, tokens));
  }
  const read = {number, boolean, time}[kind];
  const column = kind === "time" ? new Float64Array(rows.length) : new Float32Array(rows.length);
  values.forEach((value, row) => {
    try {
      column[row] = value === null || value === undefined ? NaN : read(value);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      column[row] = NaN;
      faults.push({row, column: name, error: `${shown(value)} is not a ${kind}`});
    }
  });
  return column;
}

function shown(value) {
  return (typeof value === "string" ? `'${value}'` : String(value)).slice(0, 60);
}

// The text by which a category's value is known: 3 and 3.0 are one.
export function category(value) {
  if (value === null || value === undefined) return NULL_CATEGORY;
  if (typeof value !== "number") return String(value);
  if (!Number.isFinite(value)) return NULL_CATEGORY;
  if (Number.isInteger(value)) return String(BigInt(value));
  if (Math.abs(value) >= 1e-4) return String(value);
  const [digits, power] = value.toExponential().split("e-");
  return `${digits}e-${power.padStart(2, "0")}`; // as Python writes it
}

// The tokens of a text with a space between any two.
export function tokenised(text, tokens) {
  if (text === NULL_CATEGORY) return "";
  const words = text.toLowerCase().replace(BETWEEN_WORDS, " ").split(" ").filter((word) => word);
  return tokens === "words" ? words.join(" ") : [...words.join(WORD_END)].join(" ");
}

function number(value) {
  if (typeof value === "boolean") return value ? 1 : 0;
  if (typeof value === "bigint" || typeof value === "number") return within(Number(value));
  const found = typeof value === "string" ? float(value) : null;
  if (found === null) throw new Unreadable();
  return within(found);
}

// The number that a text says, as Python reads it; null where it says none.
export function float(words) {
  const text = words.replace(AROUND_NUMBER, "").replace(/\p{Nd}/gu, digit);
  if (NOT_FINITE.test(text)) return NaN;
  return NUMBER.test(text) ? Number(text.replaceAll("_", "")) : null;
}

function within(value) {
  return Math.abs(value) <= LARGEST ? value : NaN;
}

// Digits of every script count; each script has its ten in a row, and scripts stand side by side in
// tens.
function digit(character) {
  const code = character.codePointAt(0);
  if (code < 128) return character;
  let first = code;
  while (/\p{Nd}/u.test(String.fromCodePoint(first - 1))) first -= 1;
  return String((code - first) % 10);
}

function boolean(value) {
  if (typeof value === "boolean") return value ? 1 : 0;
  const text = category(value).replace(AROUND_TEXT, "").toLowerCase();
  if (TRUE_WORDS.has(text)) return 1;
  if (FALSE_WORDS.has(text)) return 0;
  throw new Unreadable();
}

// Epoch seconds; no zone means UTC.
function time(value) {
  const found = typeof value === "string" ? TIME.exec(value) : null;
  if (found === null) throw new Unreadable();
  const [year, month, day, hour, minute, second] =
    found.slice(1, 7).map((part) => Number(part ?? 0));
  const date = new Date(0);
  date.setUTCFullYear(year, month - 1, day);
  const isDay = year > 0 && date.getUTCMonth() === month - 1 && date.getUTCDate() === day;
  const [east, hours, minutes] = [found[9] === "-" ? -1 : 1, found[10] ?? 0, found[11] ?? 0].map(Number);
  if (!isDay || hour > 23 || minute > 59 || second > 59 || hours > 23 || minutes > 59) {
    throw new Unreadable();
  }
  const seconds = date.getTime() / 1000 + hour * 3600 + minute * 60 + second
    - east * (hours * 3600 + minutes * 60);
  const micros = BigInt(seconds) * 1000000n + BigInt((found[7] ?? "").slice(0, 6).padEnd(6, "0"));
  return exact(micros);
}

// A count of microseconds in seconds, rounded once: by reading its decimals.
function exact(micros) {
  const sign = micros < 0n ? "-" : "";
  const digits = String(micros < 0n ? -micros : micros).padStart(7, "0");
  return Number(`${sign}${digits.slice(0, -6)}.${digits.slice(-6)}`);
}
