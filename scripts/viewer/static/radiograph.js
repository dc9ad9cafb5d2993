// One film: picture, marks, outlines; mouse and keyboard on them.

import { Refused } from "./state.js";

const SVG = "http://www.w3.org/2000/svg";
const LETTERS = { ap: ["R", "L"], lat: ["A", "P"] };
// Half the width of a drawn mark, screen pixels: a double click this near is meant for the mark.
const SHAPE_PX = 7;

function node(name, attributes = {}, parent = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  parent?.append(made);
  return made;
}

// Confidence has a shape as well as a colour: circle, diamond, triangle; square for what a person set.
export function grade(mark) {
  if (mark.set_by === "edited") return { name: "set by hand", colour: "#7dd3ff", path: "M-1-1H1V1H-1Z" };
  if (mark.confidence >= 0.8) return { name: "sure", colour: "#7ee08a", path: "M0-1.15A1.15 1.15 0 1 1-.01-1.15Z" };
  if (mark.confidence >= 0.5) return { name: "less sure", colour: "#ffd166", path: "M0-1.5 1.5 0 0 1.5-1.5 0Z" };
  return { name: "unsure", colour: "#ff8f80", path: "M0-1.5 1.5 1.2H-1.5Z" };
}

export class Radiograph {
  constructor(section, name, state, onError) {
    Object.assign(this, { section, name, state, onError, flipped: false, inverted: false, level: 0.5, window: 1 });
    this.build();
    state.addEventListener("change", ({ detail }) => (detail === "case" ? this.open() : this.draw(detail)));
  }

  build() {
    this.svg = node("svg", { "data-view": this.name, role: "group", "aria-label": `${this.name.toUpperCase()} film with marks` });
    const filter = node("filter", { id: `window-${this.name}`, "color-interpolation-filters": "sRGB" }, node("defs", {}, this.svg));
    const transfer = node("feComponentTransfer", {}, filter);
    this.curves = ["R", "G", "B"].map((c) => node(`feFunc${c}`, { type: "linear" }, transfer));
    this.image = node("image", { preserveAspectRatio: "none", filter: `url(#window-${this.name})` }, this.svg);
    this.outlines = node("g", { class: "outlines" }, this.svg);
    this.line = node("line", { class: "height-line", visibility: "hidden" }, this.svg);
    this.marks = node("g", { class: "marks" }, this.svg);
    this.letters = node("g", { class: "letters", "aria-hidden": "true" }, this.svg);
    const tools = document.createElement("div");
    tools.className = "tools";
    const title = document.createElement("strong");
    title.textContent = this.name.toUpperCase();
    this.sliders = {};
    const slider = (label, key, low, high, value) => {
      const holder = document.createElement("label");
      const input = Object.assign(document.createElement("input"), { type: "range", min: low, max: high, step: 0.01, value });
      input.dataset.tool = key;
      holder.append(label, input);
      input.addEventListener("input", () => {
        this[key] = Number(input.value);
        this.drawWindow();
      });
      this.sliders[key] = input;
      return holder;
    };
    const button = (label, tool, action) => {
      const made = Object.assign(document.createElement("button"), { textContent: label });
      made.dataset.tool = tool;
      made.addEventListener("click", () => {
        action();
        if (made.hasAttribute("aria-pressed")) made.setAttribute("aria-pressed", made.ariaPressed !== "true");
      });
      return made;
    };
    const invert = button("Invert", "invert", () => { this.inverted = !this.inverted; this.drawWindow(); });
    const flip = button("Flip", "flip", () => { this.flipped = !this.flipped; this.open(false); });
    for (const toggle of [invert, flip]) toggle.setAttribute("aria-pressed", "false");
    flip.title = "Mirror the display only; the letters follow";
    tools.append(title, slider("Level", "level", 0, 1, 0.5), slider("Window", "window", 0.05, 2, 1), invert, flip, button("Fit", "fit", () => this.fit()));
    this.section.append(this.svg, tools);
    this.svg.addEventListener("wheel", (event) => this.zoom(event), { passive: false });
    this.svg.addEventListener("pointerdown", (event) => this.pan(event));
    this.svg.addEventListener("dblclick", (event) => this.addMark(event));
  }

  open(fit = true) {
    const view = this.state.case.views[this.name];
    [this.rows, this.columns] = view.shape;
    [this.rowMm, this.columnMm] = view.pixel_mm;
    this.width = this.columns * this.columnMm;
    this.height = this.rows * this.rowMm;
    for (const [key, value] of [["x", 0], ["y", 0], ["width", this.width], ["height", this.height]]) this.image.setAttribute(key, value);
    this.image.setAttribute("href", this.state.filmUrl(this.name));
    this.image.setAttribute("transform", this.flipped ? `translate(${this.width} 0) scale(-1 1)` : "");
    if (fit) this.fit();
    this.drawWindow();
    this.draw("case");
  }

  // Film pixels <-> millimetres on the screen's plane.
  x(column) {
    const x = (column + 0.5) * this.columnMm;
    return this.flipped ? this.width - x : x;
  }

  y(row) {
    return (row + 0.5) * this.rowMm;
  }

  pixel(event) {
    const point = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    const x = this.flipped ? this.width - point.x : point.x;
    return [point.y / this.rowMm - 0.5, x / this.columnMm - 0.5];
  }

  fit() {
    this.box = [0, 0, this.width, this.height];
    this.applyBox();
  }

  applyBox() {
    this.svg.setAttribute("viewBox", this.box.join(" "));
    this.drawLetters();
    if (this.state.case) this.draw("look");
  }

  zoom(event) {
    event.preventDefault();
    if (!this.box) return;
    const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.svg.getScreenCTM().inverse());
    const factor = Math.exp(event.deltaY * 0.0015);
    const width = Math.min(Math.max(this.box[2] * factor, 20), this.width * 2);
    const scale = width / this.box[2];
    this.box = [at.x - (at.x - this.box[0]) * scale, at.y - (at.y - this.box[1]) * scale, width, this.box[3] * scale];
    this.applyBox();
  }

  pan(event) {
    if (event.target.closest(".mark") || !this.box) return;
    if (event.button === 0 && !event.shiftKey && !event.altKey) this.state.select(null);
    const start = { x: event.clientX, y: event.clientY, box: [...this.box] };
    const scale = this.svg.getScreenCTM().a;
    this.drag(event, (now) => {
      this.box = [start.box[0] - (now.clientX - start.x) / scale, start.box[1] - (now.clientY - start.y) / scale, start.box[2], start.box[3]];
      this.applyBox();
    });
  }

  drag(event, onMove, onEnd = () => {}) {
    const target = this.svg;
    target.setPointerCapture(event.pointerId);
    const end = () => {
      target.removeEventListener("pointermove", onMove);
      target.removeEventListener("pointerup", end);
      target.removeEventListener("pointercancel", end);
      onEnd();
    };
    target.addEventListener("pointermove", onMove);
    target.addEventListener("pointerup", end);
    target.addEventListener("pointercancel", end);
  }

  addMark(event) {
    if (!this.state.case || this.nearest(event)?.pixels < SHAPE_PX) return;
    const [row, column] = this.pixel(event);
    if (row < 0 || column < 0 || row > this.rows - 1 || column > this.columns - 1) return;
    try {
      this.state.add(this.name, row, column);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.onError(error.message);
    }
  }

  drawWindow() {
    const slope = (this.inverted ? -1 : 1) / this.window;
    const intercept = 0.5 - slope * this.level;
    for (const curve of this.curves) {
      curve.setAttribute("slope", slope);
      curve.setAttribute("intercept", intercept);
    }
  }

  drawLetters() {
    this.letters.replaceChildren();
    const [left, right] = this.flipped ? [...LETTERS[this.name]].reverse() : LETTERS[this.name];
    const size = this.box[2] / 22;
    for (const [letter, x, anchor] of [[left, this.box[0] + size * 0.4, "start"], [right, this.box[0] + this.box[2] - size * 0.4, "end"]]) {
      const text = node("text", { x, y: this.box[1] + size * 1.2, "text-anchor": anchor, class: "corner-letter", "font-size": size }, this.letters);
      text.style.fontSize = `${size}px`;
      text.textContent = letter;
    }
  }

  draw(what) {
    if (!this.state.case || !this.box) return;
    if (["case", "marks", "results", "look"].includes(what)) this.drawOutlines();
    if (this.dragging && what === "selection") return;
    this.drawMarks();
    this.drawHeightLine();
  }

  // Screen pixels in millimetres, so that marks keep their size while the film is zoomed.
  unit() {
    const scale = this.svg.getScreenCTM()?.a || 1;
    return 1 / scale;
  }

  drawOutlines() {
    this.outlines.replaceChildren();
    const current = this.state.marks;
    if (this.state.comparing) for (const [level, result] of Object.entries(this.state.before)) this.drawOutline(level, result, " before");
    for (const [level, result] of Object.entries(this.state.results)) {
      if (!result.outlines) continue;
      const fresh = result.marked === JSON.stringify([current.ap[level]?.centroid, current.lat[level]?.centroid]);
      this.drawOutline(level, result, fresh ? "" : " stale");
    }
  }

  drawOutline(level, result, kind) {
    if (this.state.hidden.has(level)) return;
    for (const polygon of result.outlines[this.name]) {
      const points = polygon.map(([row, column]) => `${this.x(column)},${this.y(row)}`).join(" ");
      const drawn = node("polygon", { class: `outline${kind}`, points, "data-level": level }, this.outlines);
      if (!kind.includes("before")) drawn.style.stroke = this.state.colours[level];
    }
  }

  drawMarks() {
    const focused = document.activeElement?.closest?.(`svg[data-view=${this.name}] .mark`)?.dataset.level;
    this.marks.replaceChildren();
    const unit = this.unit();
    const marks = this.state.marks[this.name];
    for (const level of this.state.sorted(Object.keys(marks))) this.drawMark(level, marks[level], unit);
    // The focus follows the selection: a mark that gets it back would select itself again.
    if (focused) (this.marks.querySelector(".selected") ?? this.marks.querySelector(`[data-level="${focused}"]`))?.focus();
  }

  drawMark(level, mark, unit) {
    const [row, column] = mark.centroid;
    const look = grade(mark);
    const selected = level === this.state.selected;
    const where = `row ${row.toFixed(0)}, column ${column.toFixed(0)}`;
    const group = node("g", {
      class: `mark${selected ? " selected" : ""}`, "data-level": level, "data-row": row, "data-column": column, tabindex: 0, role: "button",
      "aria-label": `${level}, ${look.name}, ${where}`, "aria-pressed": selected,
      transform: `translate(${this.x(column)} ${this.y(row)})`,
    }, this.marks);
    if (mark.corners) {
      const points = mark.corners.map(([r, c]) => `${this.x(c) - this.x(column)},${this.y(r) - this.y(row)}`);
      const box = node("polygon", { class: "box", points: points.join(" ") }, group);
      box.style.stroke = look.colour;
      if (selected) mark.corners.forEach((corner, index) => this.drawCorner(group, level, index, corner, mark, look, unit));
    }
    const sign = node("g", { transform: `scale(${unit * 6})` }, group);
    node("circle", { class: "hit", r: 2.2 }, sign);
    node("path", { class: "shape", d: look.path }, sign).style.stroke = look.colour;
    const dot = node("circle", { class: "dot", r: 0.28 }, sign);
    dot.style.fill = look.colour;
    const text = node("text", { x: unit * 13, y: unit * 4 }, group);
    text.style.fontSize = `${unit * 12}px`;
    text.style.fill = selected ? "#fff" : look.colour;
    text.textContent = selected && mark.set_by === "model" ? `${level} ${(100 * mark.confidence).toFixed(0)} %` : level;
    group.addEventListener("pointerdown", (event) => this.grab(event, level));
    group.addEventListener("focus", () => this.state.selected !== level && this.state.select(level));
    group.addEventListener("keydown", (event) => this.nudge(event, level));
  }

  drawCorner(group, level, index, corner, mark, look, unit) {
    const handle = node("circle", {
      class: "corner", r: unit * 5, cx: this.x(corner[1]) - this.x(mark.centroid[1]), cy: this.y(corner[0]) - this.y(mark.centroid[0]), "data-corner": index,
    }, group);
    handle.style.stroke = look.colour;
  }

  // Where marks are close, the areas in which they can be caught overlap: the nearest one is meant.
  nearest(event) {
    const away = (level) => {
      const [row, column] = this.state.marks[this.name][level].centroid;
      const at = new DOMPoint(this.x(column), this.y(row)).matrixTransform(this.svg.getScreenCTM());
      return Math.hypot(at.x - event.clientX, at.y - event.clientY);
    };
    const found = Object.keys(this.state.marks[this.name]).map((level) => ({ level, pixels: away(level) }));
    return found.sort((a, b) => a.pixels - b.pixels)[0];
  }

  grab(event, touched) {
    if (event.button !== 0) return;
    event.preventDefault();
    event.stopPropagation();
    const corner = event.target.dataset.corner;
    const level = corner === undefined ? this.nearest(event).level : touched;
    this.state.select(level);
    const mark = this.state.marks[this.name][level];
    const from = corner === undefined ? mark.centroid : mark.corners[corner];
    const at = this.pixel(event);
    const step = [from[0] - at[0], from[1] - at[1]];
    let merge = false;
    this.dragging = true;
    this.drag(event, (now) => {
      const [row, column] = this.pixel(now);
      if (corner === undefined) this.state.move(this.name, level, row + step[0], column + step[1], merge);
      else this.state.moveCorner(this.name, level, Number(corner), row + step[0], column + step[1], merge);
      merge = true;
    }, () => {
      this.dragging = false;
      this.marks.querySelector(`[data-level="${level}"]`)?.focus();
      this.state.changed("settled");
    });
  }

  nudge(event, level) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, this.flipped ? 1 : -1], ArrowRight: [0, this.flipped ? -1 : 1] };
    const step = steps[event.key];
    if (!step) return;
    event.preventDefault();
    event.stopPropagation();
    const far = event.shiftKey ? 10 : 1;
    const [row, column] = this.state.marks[this.name][level].centroid;
    this.state.move(this.name, level, row + step[0] * far, column + step[1] * far);
    this.state.changed("settled");
  }

  drawHeightLine() {
    const mark = this.state.marks[this.name][this.state.selected];
    this.line.setAttribute("visibility", mark ? "visible" : "hidden");
    if (!mark) return;
    const y = this.y(mark.centroid[0]);
    for (const [key, value] of [["x1", 0], ["x2", this.width], ["y1", y], ["y2", y]]) this.line.setAttribute(key, value);
  }
}
