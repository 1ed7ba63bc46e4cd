// The log of an episode: what was done in each step and what came of it, newest first.

import { element } from "./element.js";
import { compact, cut, parse } from "./json.js";
import { short } from "./curve.js";

/** Rows that are kept. */
const MOST = 1000;
/** Characters of observations that are kept; older ones are let go of first. */
const MOST_CHARACTERS = 32 << 20;
/** Characters of an action in its row. */
const ACTION = 160;

/** How a reward is shown. */
export const rewardText = (reward) =>
  typeof reward === "number" ? short(reward) : reward === null || reward === undefined ? "–" : compact(reward);

export class Log {
  #rows = [];
  #characters = 0;
  #body = element("tbody");
  #chosen;

  constructor(place, choose) {
    this.choose = choose;
    const head = ["Step", "Action", "Reward", "Done"].map((text) => element("th", { scope: "col" }, text));
    const caption = element("caption", { class: "unseen" }, "Steps of the episode, newest first");
    place.append(element("table", { class: "log" }, caption, element("thead", {}, element("tr", {}, ...head)), this.#body));
  }

  /** An episode begins. */
  clear() {
    [this.#rows, this.#characters, this.#chosen] = [[], 0, undefined];
    this.#body.replaceChildren();
  }

  /** Adds a row. `text` is the observation's message, which is read again when it is looked at. */
  add(row) {
    const show = element("button", { type: "button", class: "link", "aria-label": `Show the observation of step ${row.step}` }, String(row.step));
    const node = element("tr", { click: () => this.#pick(row) },
      element("td", {}, show),
      element("td", { class: "action" }, cut(row.step === 0 ? "reset" : compact(row.action), ACTION)),
      element("td", { class: "number" }, rewardText(row.reward)),
      element("td", {}, row.done ? "done" : ""));
    row.node = node;
    this.#rows.push(row);
    this.#characters += row.text.length;
    this.#body.prepend(node);
    if (this.#rows.length > MOST) this.#forget(this.#rows.shift()).node.remove();
    for (let at = 0; this.#characters > MOST_CHARACTERS && at < this.#rows.length - 1; at += 1) this.#forget(this.#rows[at]);
    this.mark(undefined);
  }

  #forget(row) {
    if (row.text !== undefined) this.#characters -= row.text.length;
    row.text = undefined;
    return row;
  }

  #pick(row) {
    this.mark(row);
    this.choose(row, row.text === undefined ? undefined : parse(row.text).data);
  }

  /** Marks the row whose observation is shown; none where it is the newest. */
  mark(row) {
    this.#chosen?.node.removeAttribute("aria-current");
    this.#chosen = row;
    row?.node.setAttribute("aria-current", "true");
  }

  get length() {
    return this.#rows.length;
  }

  /** The log as JSON Lines, oldest first. */
  lines() {
    return this.#rows.map(({ step, action, reward, done, text }) => {
      const observation = text === undefined ? null : parse(text).data?.observation;
      return `${compact({ step, action: action ?? null, observation, reward: reward ?? null, done })}\n`;
    });
  }
}
