// An observation for people: boards and fields as grids, screens as images, outputs as they were printed.

import { element } from "./element.js";
import { resolve } from "./form.js";
import { cut, pretty } from "./json.js";
import { short } from "./curve.js";

/** Characters of a text that are shown; the download has all of them. */
const MOST_TEXT = 20_000;
/** Rows or columns of a grid of cells; a larger one is an image. */
const MOST_CELLS = 64;
/** Pixels of a side of an image. */
const MOST_PIXELS = 4096;
/** Fields with what a program printed. */
const PRINTED = new Set(["stdout", "stderr", "output", "traceback", "logs"]);
/** How base64 begins, by kind of image. No SVG: that is a document, not a picture. */
const IMAGES = [["iVBORw0KGgo", "png"], ["/9j/", "jpeg"], ["R0lGOD", "gif"], ["UklGR", "webp"]];
const DATA_URL = /^data:image\/(?:png|jpeg|gif|webp);base64,/;

const isNumber = (value) => typeof value === "number";
const isNumbers = (value) => Array.isArray(value) && value.length > 0 && value.every(isNumber);

/** A value as rows of numbers or of short texts, all as long as each other. */
const rowsOf = (value) => {
  if (!Array.isArray(value) || value.length === 0 || !Array.isArray(value[0])) return undefined;
  const width = value[0].length;
  const isCell = (cell) => isNumber(cell) || typeof cell === "boolean" || (typeof cell === "string" && cell.length <= 3);
  const fits = width > 0 && value.every((row) => Array.isArray(row) && row.length === width && row.every(isCell));
  return fits ? value : undefined;
};

const titled = (name, node, ...more) => element("figure", {}, element("figcaption", {}, name), node, ...more);

/** Which colours the cells of a grid have: one for each of few values, shades for many. */
const tones = (rows) => {
  const values = [...new Set(rows.flat())];
  if (values.length <= 8) {
    // Nothing, free, off: what is as good as not there has no colour, wherever it occurs.
    const nothing = new Set([0, false, "", " ", "."]);
    const others = values.filter((value) => !nothing.has(value)).sort((one, other) => (one > other ? -1 : 1));
    return (value) => (nothing.has(value) ? "tone-0" : `tone-${others.indexOf(value) + 1}`);
  }
  const numbers = values.filter(isNumber);
  const low = numbers.reduce((one, other) => Math.min(one, other), Infinity);
  const range = numbers.reduce((one, other) => Math.max(one, other), -Infinity) - low || 1;
  return (value) => (isNumber(value) ? `shade-${Math.round(((value - low) / range) * 9)}` : "tone-0");
};

/** Rows of cells as a table. */
const grid = (name, rows) => {
  const tone = tones(rows);
  const cell = (value) => element("td", { class: tone(value) }, isNumber(value) ? short(value) : String(value));
  const body = rows.map((row) => element("tr", {}, ...row.map(cell)));
  const table = element("table", { class: rows[0].length > 20 ? "grid small" : "grid" },
    element("caption", { class: "unseen" }, `${name}, ${rows.length} rows of ${rows[0].length}`), element("tbody", {}, ...body));
  return titled(name, element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": name }, table));
};

/** Numbers as an image. */
const image = (name, height, width, channels, at) => {
  const canvas = element("canvas", { width, height, role: "img", "aria-label": `${name}, ${width} × ${height} pixels` });
  const context = canvas.getContext("2d");
  const picture = context.createImageData(width, height);
  for (let pixel = 0; pixel < width * height; pixel += 1) {
    for (let channel = 0; channel < 4; channel += 1) {
      const none = channel === 3 ? 255 : at(pixel, 0);
      picture.data[pixel * 4 + channel] = channel < channels && channels > 1 ? at(pixel, channel) : none;
    }
  }
  context.putImageData(picture, 0, 0);
  // Small screens are shown larger, in whole pixels.
  const factor = Math.max(1, Math.min(8, Math.floor(360 / Math.max(width, height))));
  canvas.style.width = `${width * factor}px`;
  return titled(`${name} · ${width} × ${height}`, canvas);
};

const isSide = (number) => Number.isInteger(number) && number > 0 && number <= MOST_PIXELS;

/** How far values have to be stretched to be brightnesses: those up to 1 that are not whole are shares. */
const stretch = (values) => (values.some((value) => !Number.isInteger(value)) && values.every((value) => value <= 1) ? 255 : 1);

/** A flat list and its shape: height and width, with or without channels, those last or first. */
const screen = (name, value, shape) => {
  if (!isNumbers(value) || !isNumbers(shape) || shape.length < 2 || shape.length > 3) return undefined;
  const factor = stretch(value);
  const isFirst = shape.length === 3 && [1, 3, 4].includes(shape[0]) && ![1, 3, 4].includes(shape[2]);
  const [height, width, channels] = isFirst ? [shape[1], shape[2], shape[0]] : [shape[0], shape[1], shape[2] ?? 1];
  if (!isSide(height) || !isSide(width) || ![1, 3, 4].includes(channels)) return undefined;
  if (height * width * channels !== value.length) return undefined;
  const pixels = height * width;
  const at = isFirst ? (pixel, channel) => value[channel * pixels + pixel] : (pixel, channel) => value[pixel * channels + channel];
  return image(name, height, width, channels, (pixel, channel) => at(pixel, channel) * factor);
};

/** Rows of pixels, each a list of its channels. */
const pixels = (name, value) => {
  const [row] = Array.isArray(value) ? value : [];
  const [pixel] = Array.isArray(row) ? row : [];
  if (!isNumbers(pixel) || ![1, 3, 4].includes(pixel.length)) return undefined;
  const fits = value.every((line) => Array.isArray(line) && line.length === row.length
    && line.every((one) => isNumbers(one) && one.length === pixel.length));
  return fits ? screen(name, value.flat(2), [value.length, row.length, pixel.length]) : undefined;
};

/** A picture in base64. */
const picture = (name, value) => {
  if (typeof value !== "string" || value.length < 32) return undefined;
  const kind = IMAGES.find(([begin]) => value.startsWith(begin));
  const src = DATA_URL.test(value) ? value : kind && /^[A-Za-z0-9+/=\s]+$/.test(value) ? `data:image/${kind[1]};base64,${value}` : undefined;
  return src ? titled(name, element("img", { src, alt: name })) : undefined;
};

/** A place on a field whose bounds the schema names. */
const place = (observation, schema) => {
  const sides = ["x", "y"].map((name) => resolve(schema?.properties?.[name], schema ?? {}));
  const fits = sides.every(({ minimum, maximum }, at) => minimum === 0 && Number.isInteger(maximum)
    && maximum < MOST_CELLS && Number.isInteger(observation[["x", "y"][at]]));
  if (!fits) return undefined;
  // Which of them counts the rows is the environment's affair; it may say so.
  const isRow = /\brow/i.test(sides[0].description ?? "");
  const [row, column] = isRow ? [observation.x, observation.y] : [observation.y, observation.x];
  const [rows, columns] = isRow ? [sides[0].maximum + 1, sides[1].maximum + 1] : [sides[1].maximum + 1, sides[0].maximum + 1];
  const cell = (at, to) => element("td", { class: at === row && to === column ? "here" : "tone-0" }, at === row && to === column ? "●" : "");
  const body = Array.from({ length: rows }, (_, at) => element("tr", {}, ...Array.from({ length: columns }, (_, to) => cell(at, to))));
  const told = `x ${observation.x}, y ${observation.y}`;
  const table = element("table", { class: "grid place", role: "img", "aria-label": `Place on the field: ${told}` }, element("tbody", {}, ...body));
  return titled(`${told} · x counts ${isRow ? "rows from the top" : "columns from the left"}`, table);
};

const printed = (name, value) => {
  const box = element("pre", { class: name === "stderr" || name === "traceback" ? "printed failed" : "printed", tabindex: "0", "aria-label": name },
    value === "" ? element("span", { class: "hint" }, "(empty)") : cut(value, MOST_TEXT));
  return titled(name, box);
};

/** The largest of what there is to look at; undefined where a value is just a value. */
const view = (name, value, observation) => {
  const rows = rowsOf(value);
  if (rows && rows.length <= MOST_CELLS && rows[0].length <= MOST_CELLS) return grid(name, rows);
  if (rows && rows.every(isNumbers)) return screen(name, rows.flat(), [rows.length, rows[0].length]);
  const { width, height } = observation;
  if (Array.isArray(value) && isSide(width) && isSide(height) && value.length === width * height && width <= MOST_CELLS && height <= MOST_CELLS) {
    const cells = rowsOf(Array.from({ length: height }, (_, at) => value.slice(at * width, (at + 1) * width)));
    if (cells) return grid(name, cells);
  }
  const shaped = Object.hasOwn(observation, `${name}_shape`) ? screen(name, value, observation[`${name}_shape`]) : undefined;
  if (shaped) return shaped;
  const seen = pixels(name, value) ?? picture(name, value);
  if (seen) return seen;
  if (typeof value === "string" && (PRINTED.has(name) || value.includes("\n"))) return printed(name, value);
  return undefined;
};

const isEmpty = (value) => value !== null && typeof value === "object" && Object.keys(value).length === 0;

/** What is shown of an observation. */
export const shown = (observation, schema) => {
  const box = element("div", { class: "observation" });
  const whole = element("details", {}, element("summary", {}, "As JSON"));
  whole.addEventListener("toggle", () => {
    // Made when it is looked at: screens are long.
    if (whole.open && whole.childElementCount === 1) {
      whole.append(element("pre", { tabindex: "0", "aria-label": "Observation as JSON" }, cut(pretty(observation), MOST_TEXT)));
    }
  });
  if (observation === null || typeof observation !== "object" || Array.isArray(observation)) {
    box.append(element("pre", {}, cut(pretty(observation), MOST_TEXT)));
    return box;
  }
  const views = [];
  const facts = element("dl", { class: "facts" });
  const at = place(observation, schema);
  if (at) views.push(at);
  const isBeside = ([name]) => name === "metadata";
  const fields = Object.entries(observation);
  for (const [name, value] of [...fields.filter((field) => !isBeside(field)), ...fields.filter(isBeside)]) {
    if (name === "metadata" && isEmpty(value)) continue;
    const seen = view(name, value, observation);
    if (seen) {
      views.push(seen);
      continue;
    }
    const text = typeof value === "string" ? value : pretty(value);
    const told = text === "" ? element("span", { class: "hint" }, "(empty)") : cut(text, MOST_TEXT);
    const isCode = value !== null && typeof value === "object";
    facts.append(element("div", {}, element("dt", {}, name), element("dd", { class: isCode ? "json" : undefined }, told)));
  }
  box.append(...views);
  if (facts.childElementCount > 0) box.append(facts);
  if (facts.childElementCount + views.length === 0) box.append(element("p", { class: "hint" }, "It has no fields."));
  box.append(whole);
  return box;
};
