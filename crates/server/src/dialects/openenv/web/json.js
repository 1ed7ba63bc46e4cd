// JSON without loss: whole numbers that JavaScript's numbers cannot hold stay as they are.

const LONG_NUMBER = /\d{16}/;

/** Reads a text. Whole numbers that would lose digits become BigInt, where the browser tells them. */
export const parse = (text) => {
  // The usual text has none, and is read much faster without looking at each value.
  if (!LONG_NUMBER.test(text)) return JSON.parse(text);
  return JSON.parse(text, (_key, value, context) =>
    typeof value === "number" && Number.isInteger(value) && !Number.isSafeInteger(value)
      && /^-?\d+$/.test(context?.source ?? "") ? BigInt(context.source) : value);
};

const isPlain = (value) => value === null || typeof value !== "object";

const plain = (value) =>
  typeof value === "bigint" ? value.toString() : JSON.stringify(value === undefined ? null : value);

/** Writes a value on one line. */
export const compact = (value) => {
  if (isPlain(value)) return plain(value);
  if (Array.isArray(value)) return `[${value.map(compact).join(",")}]`;
  return `{${Object.entries(value).map(([key, item]) => `${JSON.stringify(key)}:${compact(item)}`).join(",")}}`;
};

/** Writes a value for people: indented, but lists of plain values on one line. */
export const pretty = (value, indent = "") => {
  if (isPlain(value)) return plain(value);
  const inner = `${indent}  `;
  if (Array.isArray(value)) {
    if (value.every(isPlain)) return `[${value.map(plain).join(", ")}]`;
    return `[\n${value.map((item) => inner + pretty(item, inner)).join(",\n")}\n${indent}]`;
  }
  const entries = Object.entries(value);
  if (entries.length === 0) return "{}";
  const lines = entries.map(([key, item]) => `${inner}${JSON.stringify(key)}: ${pretty(item, inner)}`);
  return `{\n${lines.join(",\n")}\n${indent}}`;
};

/** A text of at most so many characters, and how much is left out. */
export const cut = (text, most) =>
  text.length <= most ? text : `${text.slice(0, most)}\n… ${text.length - most} more characters`;
