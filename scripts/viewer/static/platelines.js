// End plates and angles on a film: the lines that the service measured, at its own pixels.

import { node, wordPx } from "./svg.js";

/** @import { Radiograph } from "./radiograph.js" */

/**
 * Only what is current is drawn, and an angle only with the end vertebrae that are chosen now.
 * @type {(film: Radiograph, group: SVGElement) => void}
 */
export function drawPlateLines(film, group) {
  group.replaceChildren();
  const { state, name } = film;
  if (!state.platesShown) return;
  for (const [level, plates] of Object.entries(state.measuredNow?.plates ?? {})) {
    if (state.hidden.has(level)) continue;
    for (const line of plates[name]) drawLine(film, group, line, { class: "plate", "data-level": level });
  }
  /** @type {{ x: number, y: number, text: string }[]} */
  const labels = [];
  for (const { lines, measure, drawn } of state.anglesNow?.curves ?? []) {
    if (lines?.view !== name) continue;
    for (const line of lines.pixels) drawLine(film, group, line, { class: "angle-line", "data-measure": measure });
    const ends = lines.pixels.map((line) => line[1]);
    drawLine(film, group, ends, { class: "angle-line between" });
    const [row, column] = [0, 1].map((i) => (ends[0][i] + ends[1][i]) / 2);
    labels.push({ x: film.x(column), y: film.y(row), text: drawn });
  }
  drawLabels(film, group, labels);
}

/** @type {(film: Radiograph, group: SVGElement, ends: Pixel[], attributes: Record<string, string>) => void} */
function drawLine(film, group, [first, second], attributes) {
  node("line", {
    ...attributes,
    x1: film.x(first[1]),
    y1: film.y(first[0]),
    x2: film.x(second[1]),
    y2: film.y(second[0]),
  }, group);
}

/**
 * Words stay in the picture, and none lies over another one.
 * @type {(film: Radiograph, group: SVGElement, labels: { x: number, y: number, text: string }[]) => void}
 */
function drawLabels(film, group, labels) {
  const unit = film.unit();
  const size = unit * wordPx();
  const [left, top, wide, tall] = film.box ?? [0, 0, film.width, film.height];
  /** @type {{ x: number, y: number, half: number }[]} */
  const taken = [];
  for (const { x, y, text } of labels.sort((a, b) => a.y - b.y)) {
    const half = 0.3 * size * text.length;
    const inside = Math.min(Math.max(x, left + half), left + wide - half);
    const above = taken.filter((other) => Math.abs(other.x - inside) < other.half + half).map((other) => other.y);
    const free = Math.max(Math.min(Math.max(y, top + size), top + tall - size), ...above.map((at) => at + 1.3 * size));
    taken.push({ x: inside, y: free, half });
    const label = node(
      "text",
      { class: "angle-label", x: inside, y: free + 0.35 * size, "text-anchor": "middle" },
      group,
    );
    label.style.fontSize = `${size}px`;
    label.textContent = text;
  }
}
