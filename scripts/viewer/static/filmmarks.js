// The marks of a film, drawn.

import { grab, nudge } from "./markediting.js";
import { caution, grade, statusColour } from "./signs.js";
import { node, setAll, wordPx } from "./svg.js";

/** @import { Radiograph } from "./radiograph.js" */

/** @param {Radiograph} film */
export function drawMarks(film) {
  /** @type {SVGElement | null | undefined} */
  const mark = document.activeElement?.closest(`svg[data-view=${film.name}] .mark`);
  const focused = mark?.dataset.level;
  film.marks.replaceChildren();
  const unit = film.unit();
  const marks = film.state.marks[film.name];
  for (const level of film.state.sorted(Object.keys(marks))) drawMark(film, level, marks[level], unit);
  // The focus follows the selection: a mark that gets it back would select itself again.
  if (focused && !film.focusMark(".selected")) film.focusMark(`[data-level="${focused}"]`);
}

/** @type {(film: Radiograph, level: string, mark: Mark, unit: number) => void} */
function drawMark(film, level, mark, unit) {
  const [row, column] = mark.centroid;
  const status = film.state.status(level);
  const colour = statusColour(status);
  const look = colour ? { ...grade(mark), colour } : grade(mark);
  const use = caution(status);
  const said = status.use ? `${look.name}, ${[status.use, ...status.reasons].join(": ")}` : look.name;
  const selected = level === film.state.selected;
  const where = `row ${row.toFixed(0)}, column ${column.toFixed(0)}`;
  const group = node("g", {
    class: `mark${selected ? " selected" : ""}`,
    "data-level": level,
    "data-row": row,
    "data-column": column,
    tabindex: 0,
    role: "button",
    "aria-label": `${level}, ${said}, ${where}`,
    "aria-pressed": selected,
    transform: `translate(${film.x(column)} ${film.y(row)})`,
  }, film.marks);
  if (mark.corners) {
    const points = mark.corners.map(([r, c]) => `${film.x(c) - film.x(column)},${film.y(r) - film.y(row)}`);
    const box = node("polygon", { class: "box", points: points.join(" ") }, group);
    box.style.stroke = look.colour;
  }
  const sign = node("g", { transform: `scale(${unit * 6})` }, group);
  node("circle", { class: "hit", r: 2.2 }, sign);
  node("path", { class: "shape", d: look.path }, sign).style.stroke = look.colour;
  const dot = node("circle", { class: "dot", r: 0.28 }, sign);
  dot.style.fill = look.colour;
  const text = node("text", { x: unit * 13, y: unit * 4 }, group);
  text.style.fontSize = `${unit * wordPx()}px`;
  text.style.fill = selected ? "#fff" : look.colour;
  const sure = !status.use && selected && mark.set_by === "model" ? ` ${(100 * mark.confidence).toFixed(0)} %` : "";
  text.textContent = level + use + sure;
  const [left, , wide] = film.box ?? [0, 0, film.width];
  // Words that would leave the picture stand on the other side of the mark.
  const beyond = film.x(column) + unit * (13 + 0.67 * wordPx() * text.textContent.length) > left + wide;
  if (beyond) setAll(text, { x: -unit * 13, "text-anchor": "end" });
  if (status.reasons.length) node("title", {}, group).textContent = [`${level}${use}`, ...status.reasons].join("\n");
  group.addEventListener("pointerdown", (event) => grab(film, event, level));
  group.addEventListener("focus", () => film.state.selected !== level && film.state.select(level));
  group.addEventListener("keydown", (event) => nudge(film, event, level));
}
