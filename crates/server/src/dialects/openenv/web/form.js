// A form made from a JSON Schema. Whatever it has no field for is typed as JSON.

import { element } from "./element.js";
import { compact, parse } from "./json.js";

/** Fields that hold more than one line. */
const LONG = new Set(["message", "code", "command", "prompt", "text"]);
/** Fields that are there in every action and rarely used. */
const RARE = new Set(["metadata"]);
/** A chain of references longer than this is a circle. */
const REFERENCES = 16;

let count = 0;

const refered = (schema, root) => {
  let found = schema;
  for (let hops = 0; typeof found?.$ref === "string" && hops < REFERENCES; hops += 1) {
    const path = found.$ref.startsWith("#/") ? found.$ref.slice(2).split("/") : [];
    const target = path.reduce((at, part) => (at && Object.hasOwn(at, part) ? at[part] : undefined), root);
    const { $ref: _ref, ...rest } = found;
    found = { ...(target ?? {}), ...rest };
  }
  return found ?? {};
};

/** A schema without references, and without the null that it allows. */
export const resolve = (schema, root) => {
  const found = refered(schema, root);
  for (const name of ["anyOf", "oneOf", "allOf"]) {
    if (!Array.isArray(found[name])) continue;
    const ways = found[name].map((way) => refered(way, root)).filter((way) => way.type !== "null");
    if (ways.length === 1) {
      const { [name]: _ways, ...rest } = found;
      return { ...resolve(ways[0], root), ...rest };
    }
  }
  return found;
};

const kindOf = (name, schema) => {
  if (Array.isArray(schema.enum)) return "choice";
  if (Object.hasOwn(schema, "const")) return "constant";
  switch (schema.type) {
    case "boolean": return "flag";
    case "integer":
    case "number": return "number";
    case "string": return LONG.has(name) ? "long" : "text";
    default: return "json";
  }
};

const bounds = ({ minimum, maximum, exclusiveMinimum, exclusiveMaximum }) => {
  const told = [];
  if (minimum !== undefined) told.push(`at least ${minimum}`);
  if (exclusiveMinimum !== undefined) told.push(`more than ${exclusiveMinimum}`);
  if (maximum !== undefined) told.push(`at most ${maximum}`);
  if (exclusiveMaximum !== undefined) told.push(`less than ${exclusiveMaximum}`);
  return told.join(", ");
};

/** What is left out of what is sent. */
const NOTHING = Symbol("nothing");

class Mistake extends Error {}

const readNumber = (input, schema, isRequired) => {
  if (input.validity.badInput) throw new Mistake("has to be a number");
  if (input.value === "") {
    if (isRequired) throw new Mistake("a number is needed");
    return NOTHING;
  }
  const value = Number(input.value);
  if (schema.type === "integer") {
    if (!Number.isInteger(value)) throw new Mistake("has to be a whole number");
    if (!Number.isSafeInteger(value)) throw new Mistake("is larger than this page can send exactly");
  }
  if (!Number.isFinite(value)) throw new Mistake("has to be a finite number");
  const { minimum, maximum, exclusiveMinimum, exclusiveMaximum } = schema;
  if (value < minimum || value > maximum || value <= exclusiveMinimum || value >= exclusiveMaximum) {
    throw new Mistake(`has to be ${bounds(schema)}`);
  }
  return value;
};

const readJson = (input, isRequired) => {
  if (input.value.trim() === "") {
    if (isRequired) throw new Mistake("is needed, as JSON");
    return NOTHING;
  }
  try {
    return parse(input.value);
  } catch (error) {
    throw new Mistake(`is no JSON: ${error.message}`);
  }
};

const optionText = (value) => (typeof value === "string" ? value : compact(value));

/** Makes the control of a field, and how it is read. */
const control = (kind, schema, isRequired, properties) => {
  const fallback = Object.hasOwn(schema, "default") && schema.default !== null ? schema.default : undefined;
  // An empty text as what is sent for an empty field tells nothing.
  const placeholder = !isRequired && fallback !== undefined && fallback !== "" ? compact(fallback) : undefined;
  const ends = { autocomplete: "off", spellcheck: "false", autocapitalize: "off" };
  switch (kind) {
    case "choice": {
      const select = element("select", properties);
      if (!isRequired) {
        const told = fallback === undefined ? "(left out)" : `${optionText(fallback)} (default)`;
        select.append(element("option", { value: "" }, told));
      }
      schema.enum.forEach((value, at) =>
        select.append(element("option", { value: String(at) }, optionText(value))));
      return [select, () => (select.value === "" ? NOTHING : schema.enum[Number(select.value)])];
    }
    case "constant":
      return [element("output", properties, compact(schema.const)), () => schema.const];
    case "flag": {
      const input = element("input", { ...properties, type: "checkbox" });
      input.checked = fallback === true;
      return [input, () => (isRequired || input.checked !== (fallback === true) ? input.checked : NOTHING)];
    }
    case "number": {
      const { minimum, maximum } = schema;
      const step = schema.type === "integer" ? "1" : "any";
      const range = { type: "number", step, min: minimum, max: maximum, placeholder };
      const input = element("input", { ...properties, ...range, autocomplete: "off" });
      return [input, () => readNumber(input, schema, isRequired)];
    }
    case "text":
    case "long": {
      const input = kind === "text"
        ? element("input", { ...properties, ...ends, type: "text", placeholder })
        : element("textarea", { ...properties, ...ends, rows: "3", placeholder });
      return [input, () => (input.value === "" && !isRequired ? NOTHING : input.value)];
    }
    default: {
      const input = element("textarea", { ...properties, ...ends, rows: "2", class: "json", placeholder: placeholder ?? "JSON" });
      return [input, () => readJson(input, isRequired)];
    }
  }
};

const field = (name, schema, isRequired) => {
  count += 1;
  const id = `field-${count}`;
  const kind = kindOf(name, schema);
  const hints = [schema.description, bounds(schema), kind === "json" ? "JSON" : ""];
  const hint = hints.filter((text) => typeof text === "string" && text !== "").join(" · ");
  const properties = {
    id,
    name,
    "aria-describedby": hint ? `${id}-hint ${id}-error` : `${id}-error`,
    "aria-required": isRequired && kind !== "flag" && kind !== "constant" ? "true" : undefined,
  };
  const [node, read] = control(kind, schema, isRequired, properties);
  const label = element("label", { for: id }, name);
  if (isRequired && kind !== "constant") label.append(element("span", { class: "required", title: "required" }, " *"));
  const error = element("p", { class: "error", id: `${id}-error` });
  const box = element("div", { class: kind === "flag" ? "field flag" : "field" }, label, node);
  if (hint) box.append(element("p", { class: "hint", id: `${id}-hint` }, hint));
  box.append(error);
  const mark = (text) => {
    error.textContent = text;
    if (text) node.setAttribute("aria-invalid", "true");
    else node.removeAttribute("aria-invalid");
  };
  return { name, node, box, read, mark };
};

/** A form's fields: `element`, `read()` and `refuse(errors)`. */
export class Fields {
  #fields = [];
  #whole;
  #rare;

  constructor(schema) {
    const root = schema ?? {};
    const whole = resolve(root, root);
    const properties = whole.properties;
    this.element = element("div", { class: "fields" });
    if (properties === null || typeof properties !== "object" || Array.isArray(properties)) {
      // Anything at all, or one of several: typed as a whole.
      const { title: _title, ...rest } = whole;
      const told = { description: typeof rest.description === "string" ? rest.description : undefined };
      this.#whole = field("as JSON", told, true);
      this.element.append(this.#whole.box);
      return;
    }
    const required = new Set(Array.isArray(whole.required) ? whole.required : []);
    const rare = [];
    const names = Object.keys(properties);
    names.sort((one, other) => Number(required.has(other)) - Number(required.has(one)));
    for (const name of names) {
      const made = field(name, resolve(properties[name], root), required.has(name));
      this.#fields.push(made);
      if (RARE.has(name) && !required.has(name)) rare.push(made.box);
      else this.element.append(made.box);
    }
    if (rare.length > 0) {
      this.#rare = element("details", {}, element("summary", {}, "More"), ...rare);
      this.element.append(this.#rare);
    }
    if (names.length === 0) this.element.append(element("p", { class: "hint" }, "It has no fields."));
  }

  get #all() {
    return this.#whole ? [this.#whole] : this.#fields;
  }

  /** What is filled in, or undefined where something is wrong, which is marked. */
  read() {
    const value = {};
    let first;
    let whole;
    for (const one of this.#all) {
      try {
        const read = one.read();
        one.mark("");
        if (this.#whole) whole = read;
        // A name such as __proto__ is a name like any other.
        else if (read !== NOTHING) Object.defineProperty(value, one.name, { value: read, enumerable: true });
      } catch (error) {
        if (!(error instanceof Mistake)) throw error;
        one.mark(error.message);
        first ??= one;
      }
    }
    if (first) {
      this.#point(first);
      return undefined;
    }
    return this.#whole ? whole : value;
  }

  /** Marks what the server says is wrong; the texts of what belongs to no field. */
  refuse(errors) {
    const others = [];
    let first;
    const texts = new Map();
    for (const error of errors) {
      const loc = Array.isArray(error?.loc) ? error.loc : [];
      const said = typeof error?.msg === "string" ? error.msg : "is wrong";
      const one = this.#fields.find(({ name }) => name === loc[0]);
      const inside = loc.slice(1).join(".");
      if (!one) {
        others.push(loc.length > 0 ? `${loc.join(".")}: ${said}` : said);
        continue;
      }
      const text = inside ? `${inside}: ${said}` : said;
      texts.set(one, texts.has(one) ? `${texts.get(one)}; ${text}` : text);
      first ??= one;
    }
    for (const [one, text] of texts) one.mark(text);
    if (first) this.#point(first);
    return others;
  }

  #point(one) {
    if (this.#rare?.contains(one.node)) this.#rare.open = true;
    one.node.focus();
  }
}

/** Lets Ctrl+Enter send a form from where Enter is a new line. */
export const sendsByKey = (form) =>
  form.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      form.requestSubmit();
    }
  });
