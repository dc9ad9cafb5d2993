// End plates and angles on a film: the lines that the service measured, at its own pixels.

import { node, setAll, wordPx } from "./svg.js";

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
  for (const { lines, measure } of curvesOn(film)) {
    for (const line of lines.pixels) drawLine(film, group, line, { class: "angle-line", "data-measure": measure });
    drawLine(film, group, lines.pixels.map((line) => line[1]), { class: "angle-line between" });
  }
}

/**
 * The current angles that a film shows.
 * @param {Radiograph} film
 */
const curvesOn = ({ state, name }) =>
  (state.anglesNow?.curves ?? []).flatMap(({ lines, measure, drawn }) =>
    lines?.view === name ? [{ lines, measure, drawn }] : []
  );

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
 * The angles in words: they stay in the picture, above all else, and where no other word or mark is.
 * @type {(film: Radiograph, group: SVGElement) => void}
 */
export function drawAngleLabels(film, group) {
  group.replaceChildren();
  if (!film.state.platesShown) return;
  const size = film.unit() * wordPx();
  const taken = [...film.marks.querySelectorAll(".shape, text")].map((drawn) => boxOf(film, drawn));
  for (const { lines, drawn } of curvesOn(film)) {
    const [row, column] = [0, 1].map((i) => (lines.pixels[0][1][i] + lines.pixels[1][1][i]) / 2);
    const label = node("text", { class: "angle-label", "text-anchor": "middle" }, group);
    label.style.fontSize = `${size}px`;
    label.textContent = drawn;
    const half = label.getComputedTextLength() / 2 + 0.15 * size;
    const [x, y] = free(film, film.x(column), film.y(row), half, 0.65 * size, taken);
    setAll(label, { x, y: y + 0.35 * size });
    taken.push([x - half, y - 0.65 * size, x + half, y + 0.65 * size]);
  }
}

/**
 * Where something is on a film, mm: left, top, right, bottom.
 * @type {(film: Radiograph, drawn: Element) => number[]}
 */
function boxOf(film, drawn) {
  const { left, top, right, bottom } = drawn.getBoundingClientRect();
  const back = film.screen.inverse();
  const [a, b] = [new DOMPoint(left, top), new DOMPoint(right, bottom)].map((point) => point.matrixTransform(back));
  return [a.x, a.y, b.x, b.y];
}

/**
 * The place nearest to a wanted one at which a word lies in the picture and over none of those that are taken.
 * @type {(film: Radiograph, x: number, y: number, half: number, tall: number, taken: number[][]) => number[]}
 */
function free(film, x, y, half, tall, taken) {
  const [left, top, wide, high] = film.box ?? [0, 0, film.width, film.height];
  /** @type {(value: number, low: number, most: number) => number} */
  const within = (value, low, most) => Math.max(Math.min(value, most), low);
  /** @type {(dx: number, dy: number) => number[]} */
  const place = (dx, dy) => [
    within(x + dx, left + half, left + wide - half),
    within(y + dy, top + tall, top + high - tall),
  ];
  /** @param {number[]} place */
  const isFree = ([px, py]) =>
    taken.every(([l, t, r, b]) => px + half <= l || px - half >= r || py + tall <= t || py - tall >= b);
  const nearest = place(0, 0);
  // Mostly so; films are drawn anew at every step of a drag.
  if (isFree(nearest)) return nearest;
  const steps = Array.from({ length: 61 }, (_, i) => (i - 30) * 0.5 * tall);
  const places = steps.flatMap((dx) => steps.map((dy) => place(dx, dy)));
  /** @param {number[]} place */
  const away = (place) => Math.hypot(place[0] - x, place[1] - y);
  places.sort((a, b) => away(a) - away(b));
  return places.find(isFree) ?? nearest;
}
