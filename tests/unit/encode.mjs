// Run by test_browser.py: encodes rows with the page's encoder, and reads CSV files with its reader.
//   node encode.mjs PAGE < {"features", "rows", "csv"} > columns
import {readFileSync} from "node:fs";

const page = process.argv[2];
const {encodeRows} = await import(`${page}/encoding.js`);
const {readCsv, values} = await import(`${page}/csv.js`);
const asked = JSON.parse(readFileSync(0, "utf-8"));
let rows = asked.rows;
if (asked.csv !== undefined) {
  const table = readCsv(Buffer.from(asked.csv, "base64"));
  rows = table.cells.map(() => ({}));
  for (const feature of asked.features) {
    const place = table.names.indexOf(feature.name);
    const read = values(table.cells.map((cells) => cells[place]), feature, new Set(asked.known));
    read.forEach((value, row) => { rows[row][feature.name] = value; });
  }
}
const {columns, faults} = encodeRows(rows, asked.features);
// The bits of a number say more than its digits.
const bits = (column) => Buffer.from(column.buffer).toString("hex");
const told = [...columns].map(([name, column]) => [name, Array.isArray(column) ? column : bits(column)]);
process.stdout.write(JSON.stringify({columns: Object.fromEntries(told), faults}));
