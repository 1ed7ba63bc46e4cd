// The reward of an episode: a bar for each step, a line for the sum of all so far.

import { drawn, element } from "./element.js";

/** Steps that are drawn; of a longer episode the last ones. */
const MOST = 1000;
/** Bars that tell what they stand for; more are one shape, which is drawn sooner. */
const MOST_BARS = 200;
const HEIGHT = 210;
const ROOM = { top: 10, right: 14, bottom: 40, left: 58 };

/** Round numbers that cover a range in about so many pieces. */
export const ticks = (from, to, pieces) => {
  const rough = (to - from) / pieces || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough * 0.999) ?? rough;
  const first = Math.floor(from / step + 1e-9);
  const last = Math.max(Math.ceil(to / step - 1e-9), first + 1);
  return Array.from({ length: last - first + 1 }, (_, at) => (first + at) * step);
};

/** A number for people: without the noise of its last digits. */
export const short = (number) => String(Number(number.toPrecision(6)));

/** Draws into an element, anew whenever its width changes. */
export class Curve {
  #rewards = [];
  #before = 0;
  #steps = 0;
  #place;
  #width = 0;
  #isDue = false;

  constructor(place) {
    this.#place = place;
    new ResizeObserver(([entry]) => {
      const width = Math.round(entry.contentRect.width);
      if (width === this.#width) return;
      this.#width = width;
      this.draw();
    }).observe(place);
  }

  /** An episode begins. */
  clear() {
    [this.#rewards, this.#before, this.#steps] = [[], 0, 0];
    this.draw();
  }

  /** A step was worth this much. */
  add(reward) {
    this.#rewards.push(reward);
    this.#steps += 1;
    if (this.#rewards.length > MOST) this.#before += this.#rewards.shift();
    this.draw();
  }

  /** The sum of all rewards. */
  get total() {
    return this.#rewards.reduce((sum, reward) => sum + reward, this.#before);
  }

  /** Draws before the next look at the page, however much happens until then. */
  draw() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#drawNow();
    });
  }

  #drawNow() {
    if (this.#steps === 0) {
      this.#place.replaceChildren(element("p", { class: "hint" }, "No step has been taken."));
      return;
    }
    if (this.#width === 0) return;
    const rewards = this.#rewards;
    const first = this.#steps - rewards.length;
    let sum = this.#before;
    const sums = [sum, ...rewards.map((reward) => (sum += reward))];
    const values = [0, ...rewards, ...sums];
    const bound = (pick) => values.reduce((one, other) => pick(one, other));
    const marks = ticks(bound(Math.min), bound(Math.max), 4);
    const [low, high] = [marks[0], marks[marks.length - 1]];
    const width = Math.max(this.#width, 160);
    // Half a step of room, so that the last bar stands under its step.
    const slot = (width - ROOM.left - ROOM.right) / (rewards.length + 0.5);
    const x = (step) => ROOM.left + (step - first) * slot;
    const y = (value) => ROOM.top + ((high - value) / (high - low)) * (HEIGHT - ROOM.top - ROOM.bottom);
    const told = `${this.#steps} ${this.#steps === 1 ? "step" : "steps"}, in all ${short(sum)}, the last one ${short(rewards[rewards.length - 1])}`;
    const svg = drawn("svg", { width, height: HEIGHT, viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-label": `Reward over steps: ${told}` });
    for (const mark of marks) {
      svg.append(
        drawn("line", { class: Math.abs(mark) < 1e-12 ? "zero" : "grid", x1: ROOM.left, x2: width - ROOM.right, y1: y(mark), y2: y(mark) }),
        drawn("text", { class: "tick", x: ROOM.left - 8, y: y(mark) + 4, "text-anchor": "end" }, short(mark)));
    }
    const whole = ticks(first, this.#steps, Math.max(2, Math.min(10, Math.floor(width / 70))))
      .filter((mark) => Number.isInteger(mark) && mark >= first && mark <= this.#steps);
    for (const mark of whole) {
      svg.append(drawn("text", { class: "tick", x: x(mark), y: HEIGHT - ROOM.bottom + 17, "text-anchor": "middle" }, String(mark)));
    }
    const bar = Math.max(1, Math.min(18, slot * 0.55));
    const bars = rewards.map((reward, at) => {
      const top = Math.min(y(0), y(reward));
      // A reward of nothing is a hair, so that the step is seen.
      const height = Math.max(Math.abs(y(reward) - y(0)), 1);
      const text = `step ${first + at + 1}: ${short(reward)}, in all ${short(sums[at + 1])}`;
      return { x: x(first + at + 1) - bar / 2, y: top, height, text };
    });
    if (bars.length <= MOST_BARS) {
      svg.append(...bars.map(({ text, ...at }) => drawn("rect", { class: "each", width: bar, ...at }, drawn("title", {}, text))));
    } else {
      const way = bars.map((at) => `M${at.x.toFixed(1)} ${at.y.toFixed(1)}h${bar.toFixed(1)}v${at.height.toFixed(1)}h-${bar.toFixed(1)}z`);
      svg.append(drawn("path", { class: "each", d: way.join("") }));
    }
    const points = sums.map((value, at) => `${x(first + at).toFixed(1)},${y(value).toFixed(1)}`);
    svg.append(drawn("polyline", { class: "cumulative", points: points.join(" ") }));
    if (rewards.length <= 60) {
      sums.forEach((value, at) => svg.append(drawn("circle", { class: "cumulative", cx: x(first + at), cy: y(value), r: 2.8 })));
    }
    const middle = (HEIGHT - ROOM.bottom + ROOM.top) / 2;
    svg.append(
      drawn("text", { class: "axis", x: (ROOM.left + width - ROOM.right) / 2, y: HEIGHT - 5, "text-anchor": "middle" }, "step"),
      drawn("text", { class: "axis", x: 13, y: middle, transform: `rotate(-90 13 ${middle})`, "text-anchor": "middle" }, "reward"));
    this.#place.replaceChildren(svg);
  }
}
