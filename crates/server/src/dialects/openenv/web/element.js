// Elements of the page. What a server says enters it by these alone, and only ever as text.

const SVG = "http://www.w3.org/2000/svg";

const fill = (node, properties, children) => {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (typeof value === "function") node.addEventListener(name, value);
    else node.setAttribute(name, value === true ? "" : value);
  }
  // Strings become text nodes.
  node.append(...children);
  return node;
};

/** An element; properties are attributes, or listeners where they are functions. Tags and names are the page's own. */
export const element = (tag, properties = {}, ...children) =>
  fill(document.createElement(tag), properties, children);

/** The same of SVG. */
export const drawn = (tag, properties = {}, ...children) =>
  fill(document.createElementNS(SVG, tag), properties, children);

/** The element of the page with this id. */
export const byId = (id) => document.getElementById(id);
