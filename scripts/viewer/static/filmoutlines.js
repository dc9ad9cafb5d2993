// The outlines of reconstructed vertebrae on a film.

import { faded, statusColour } from "./signs.js";
import { node } from "./svg.js";

/** @import { Radiograph } from "./radiograph.js" */

/** @param {Radiograph} film */
export function drawOutlines(film) {
  film.outlines.replaceChildren();
  if (film.state.comparing) {
    const { before } = film.state.made;
    for (const [level, result] of Object.entries(before)) drawOutline(film, level, result, "before", "#fff");
  }
  for (const [level, result] of Object.entries(film.state.results)) {
    const status = film.state.status(level);
    const colour = faded(status) ? statusColour(status) : film.state.colours[level];
    drawOutline(film, level, result, status.use.replaceAll(" ", "-"), colour);
  }
}

/** @type {(film: Radiograph, level: string, result: Result, kind: string, colour: string) => void} */
function drawOutline(film, level, result, kind, colour) {
  if (film.state.hidden.has(level)) return;
  for (const polygon of result.outlines[film.name]) {
    const points = polygon.map(([row, column]) => `${film.x(column)},${film.y(row)}`).join(" ");
    const drawn = node("polygon", { class: `outline ${kind}`, points, "data-level": level }, film.outlines);
    drawn.style.stroke = colour;
  }
}
