// One film: picture, marks, outlines; mouse and keyboard on them.

import { filmUrl } from "./api.js";
import { Refused } from "./levels.js";
import { drawPlateLines } from "./platelines.js";
import { caution, grade, statusColour } from "./signs.js";
import { node, setAll, wordPx } from "./svg.js";

/** @import { Sight } from "./sight.js" */
/** @import { State } from "./state.js" */

/** @type {PerView<[string, string]>} */
const LETTERS = { ap: ["R", "L"], lat: ["A", "P"] };
// Half the width of a drawn mark, screen pixels: a double click this near is meant for the mark.
const SHAPE_PX = 7;

export class Radiograph {
  /**
   * @param {Element} section
   * @param {ViewName} name
   * @param {State} state
   * @param {Sight} sight
   * @param {(text: string) => void} onError
   */
  constructor(section, name, state, sight, onError) {
    this.section = section;
    this.name = name;
    this.state = state;
    this.sight = sight;
    this.onError = onError;
    this.flipped = this.inverted = false;
    this.level = 0.5;
    this.window = 1;
    this.rows =
      this.columns =
      this.rowMm =
      this.columnMm =
      this.width =
      this.height =
      // The middle and the upper edge of what is in sight, mm.
      this.middle =
      this.top =
        0;
    /** @type {[number, number, number, number] | null} what is in sight: x, y, width, height in mm */
    this.box = null;
    this.svg = node("svg", {
      "data-view": this.name,
      role: "group",
      "aria-label": `${this.name.toUpperCase()} film with marks`,
    });
    const filter = node(
      "filter",
      { id: `window-${this.name}`, "color-interpolation-filters": "sRGB" },
      node("defs", {}, this.svg),
    );
    const transfer = node("feComponentTransfer", {}, filter);
    /** @type {("feFuncR" | "feFuncG" | "feFuncB")[]} */
    const channels = ["feFuncR", "feFuncG", "feFuncB"];
    this.curves = channels.map((channel) => node(channel, { type: "linear" }, transfer));
    this.image = node("image", { preserveAspectRatio: "none", filter: `url(#window-${this.name})` }, this.svg);
    this.outlines = node("g", { class: "outlines" }, this.svg);
    this.plates = node("g", { class: "plates" }, this.svg);
    this.line = node("line", { class: "height-line", visibility: "hidden" }, this.svg);
    this.pointer = node("line", { class: "height-line pointer", visibility: "hidden" }, this.svg);
    this.marks = node("g", { class: "marks" }, this.svg);
    this.letters = node("g", { class: "letters", "aria-hidden": "true" }, this.svg);
    this.addTools();
    this.svg.addEventListener("wheel", (event) => this.zoom(event), { passive: false });
    this.svg.addEventListener("pointerdown", (event) => this.pan(event));
    this.svg.addEventListener("dblclick", (event) => this.addMark(event));
    this.svg.addEventListener("pointermove", (event) => sight.point(this, this.pixel(event)));
    this.svg.addEventListener("pointerleave", () => sight.point(this, null));
    state.onChange((what) => (what === "case" ? this.open() : this.draw(what)));
    sight.add(this);
  }

  addTools() {
    const tools = document.createElement("div");
    tools.className = "tools";
    const title = document.createElement("strong");
    title.textContent = this.name.toUpperCase();
    /** @type {(label: string, key: "level" | "window", low: number, high: number) => HTMLElement} */
    const slider = (label, key, low, high) => {
      const holder = document.createElement("label");
      const input = document.createElement("input");
      // The range comes before the value, which it would cut off.
      setAll(input, { type: "range", min: low, max: high, step: 0.01, value: this[key] });
      input.dataset.tool = key;
      holder.append(label, input);
      input.addEventListener("input", () => {
        this[key] = Number(input.value);
        this.drawWindow();
      });
      return holder;
    };
    /** @type {(label: string, tool: string, action: () => void) => HTMLButtonElement} */
    const button = (label, tool, action) => {
      const made = Object.assign(document.createElement("button"), { textContent: label });
      made.dataset.tool = tool;
      made.addEventListener("click", () => {
        action();
        if (made.hasAttribute("aria-pressed")) made.ariaPressed = String(made.ariaPressed !== "true");
      });
      return made;
    };
    const invert = button("Invert", "invert", () => {
      this.inverted = !this.inverted;
      this.drawWindow();
    });
    const flip = button("Flip", "flip", () => {
      this.flipped = !this.flipped;
      this.open();
      this.sight.show();
    });
    for (const toggle of [invert, flip]) toggle.setAttribute("aria-pressed", "false");
    flip.title = "Mirror the display only; the letters follow";
    tools.append(
      title,
      slider("Level", "level", 0, 1),
      slider("Window", "window", 0.05, 2),
      invert,
      flip,
      button("Fit", "fit", () => this.sight.fit()),
    );
    this.section.append(this.svg, tools);
  }

  open() {
    const view = this.state.opened.views[this.name];
    [this.rows, this.columns] = view.shape;
    [this.rowMm, this.columnMm] = view.pixel_mm;
    this.width = this.columns * this.columnMm;
    this.height = this.rows * this.rowMm;
    setAll(this.image, { x: 0, y: 0, width: this.width, height: this.height });
    this.image.setAttribute("href", filmUrl(this.state.opened.id, this.name));
    this.image.setAttribute("transform", this.flipped ? `translate(${this.width} 0) scale(-1 1)` : "");
    this.drawWindow();
    this.draw("case");
  }

  // Film pixels <-> millimetres on the screen's plane.
  /** @param {number} column */
  x(column) {
    const x = (column + 0.5) * this.columnMm;
    return this.flipped ? this.width - x : x;
  }

  /** @param {number} row */
  y(row) {
    return (row + 0.5) * this.rowMm;
  }

  /** From millimetres to screen pixels. */
  get screen() {
    return this.svg.getScreenCTM() ?? new DOMMatrix();
  }

  /** @param {MouseEvent} event */
  millimetres(event) {
    return new DOMPoint(event.clientX, event.clientY).matrixTransform(this.screen.inverse());
  }

  /**
   * @param {MouseEvent} event
   * @returns {Pixel}
   */
  pixel(event) {
    const point = this.millimetres(event);
    const x = this.flipped ? this.width - point.x : point.x;
    return [point.y / this.rowMm - 0.5, x / this.columnMm - 0.5];
  }

  /** On the screen, pixels. */
  size() {
    return this.svg.getBoundingClientRect();
  }

  /**
   * @param {number} mm of a screen pixel
   */
  look(mm) {
    const { width, height } = this.size();
    /** @type {[number, number, number, number]} */
    const box = [this.middle - (width * mm) / 2, this.top, width * mm, height * mm];
    this.box = box;
    this.svg.setAttribute("viewBox", box.join(" "));
    this.drawLetters(box);
    if (this.state.case) this.draw("look");
  }

  /** @param {WheelEvent} event */
  zoom(event) {
    event.preventDefault();
    if (this.box) this.sight.zoom(this, this.millimetres(event), Math.exp(event.deltaY * 0.0015));
  }

  /** @param {PointerEvent} event */
  pan(event) {
    if (/** @type {Element} */ (event.target).closest(".mark") || !this.box) return;
    if (event.button === 0 && !event.shiftKey && !event.altKey) this.state.select(null);
    const { middle, top } = this;
    const scale = this.screen.a;
    this.drag(event, (now) => {
      const [x, y] = [now.clientX - event.clientX, now.clientY - event.clientY];
      this.sight.place(this, middle - x / scale, top - y / scale);
    });
  }

  /** @type {(event: PointerEvent, onMove: (now: PointerEvent) => void, onEnd?: () => void) => void} */
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

  /** @param {MouseEvent} event */
  addMark(event) {
    if (!this.state.case || (this.nearest(event)?.pixels ?? Infinity) < SHAPE_PX) return;
    const [row, column] = this.pixel(event);
    if (row < 0 || column < 0 || row > this.rows - 1 || column > this.columns - 1) return;
    try {
      const level = this.state.add(this.name, row, column);
      this.focus(`[data-level="${level}"]`);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.onError(error.message);
    }
  }

  drawWindow() {
    const slope = (this.inverted ? -1 : 1) / this.window;
    const intercept = 0.5 - slope * this.level;
    for (const curve of this.curves) setAll(curve, { slope, intercept });
  }

  /** @param {[number, number, number, number]} box */
  drawLetters([left, top, width]) {
    this.letters.replaceChildren();
    const letters = this.flipped ? [...LETTERS[this.name]].reverse() : LETTERS[this.name];
    const size = width / 22;
    const places = [{ x: left + size * 0.4, anchor: "start" }, { x: left + width - size * 0.4, anchor: "end" }];
    places.forEach(({ x, anchor }, index) => {
      const place = { x, y: top + size * 1.2, "text-anchor": anchor, "font-size": size };
      const text = node("text", { ...place, class: "corner-letter" }, this.letters);
      text.style.fontSize = `${size}px`;
      text.textContent = letters[index];
    });
  }

  /** @param {Change} what */
  draw(what) {
    if (!this.state.case || !this.box) return;
    if (["case", "marks", "results", "warnings", "look"].includes(what)) this.drawOutlines();
    if (what !== "selection") drawPlateLines(this, this.plates);
    if (this.state.dragging && what === "selection") return;
    this.drawMarks();
    this.drawHeightLine();
  }

  // Screen pixels in millimetres, so that marks keep their size while the film is zoomed.
  unit() {
    return 1 / (this.screen.a || 1);
  }

  drawOutlines() {
    this.outlines.replaceChildren();
    if (this.state.comparing) {
      const { before } = this.state.made;
      for (const [level, result] of Object.entries(before)) this.drawOutline(level, result, "before", "#fff");
    }
    for (const [level, result] of Object.entries(this.state.results)) {
      const status = this.state.status(level);
      const faded = status.use === "outdated" || status.use === "do not use";
      const colour = faded ? statusColour(status) : this.state.colours[level];
      this.drawOutline(level, result, status.use.replaceAll(" ", "-"), colour);
    }
  }

  /** @type {(level: string, result: Result, kind: string, colour: string) => void} */
  drawOutline(level, result, kind, colour) {
    if (this.state.hidden.has(level)) return;
    for (const polygon of result.outlines[this.name]) {
      const points = polygon.map(([row, column]) => `${this.x(column)},${this.y(row)}`).join(" ");
      const drawn = node("polygon", { class: `outline ${kind}`, points, "data-level": level }, this.outlines);
      drawn.style.stroke = colour;
    }
  }

  drawMarks() {
    /** @type {SVGElement | null | undefined} */
    const mark = document.activeElement?.closest(`svg[data-view=${this.name}] .mark`);
    const focused = mark?.dataset.level;
    this.marks.replaceChildren();
    const unit = this.unit();
    const marks = this.state.marks[this.name];
    for (const level of this.state.sorted(Object.keys(marks))) this.drawMark(level, marks[level], unit);
    // The focus follows the selection: a mark that gets it back would select itself again.
    if (focused && !this.focus(".selected")) this.focus(`[data-level="${focused}"]`);
  }

  /**
   * Whether there is such a mark.
   * @param {string} selector
   */
  focus(selector) {
    /** @type {SVGElement | null} */
    const found = this.marks.querySelector(selector);
    found?.focus();
    return found !== null;
  }

  /** @type {(level: string, mark: Mark, unit: number) => void} */
  drawMark(level, mark, unit) {
    const [row, column] = mark.centroid;
    const status = this.state.status(level);
    const colour = statusColour(status);
    const look = colour ? { ...grade(mark), colour } : grade(mark);
    const use = caution(status);
    const said = status.use ? `${look.name}, ${[status.use, ...status.reasons].join(": ")}` : look.name;
    const selected = level === this.state.selected;
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
      transform: `translate(${this.x(column)} ${this.y(row)})`,
    }, this.marks);
    if (mark.corners) {
      const points = mark.corners.map(([r, c]) => `${this.x(c) - this.x(column)},${this.y(r) - this.y(row)}`);
      const box = node("polygon", { class: "box", points: points.join(" ") }, group);
      box.style.stroke = look.colour;
      if (selected) {
        mark.corners.forEach((corner, index) => {
          const [x, y] = [this.x(corner[1]) - this.x(column), this.y(corner[0]) - this.y(row)];
          const handle = node("circle", { class: "corner", r: unit * 5, cx: x, cy: y, "data-corner": index }, group);
          handle.style.stroke = look.colour;
        });
      }
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
    const [left, , wide] = this.box ?? [0, 0, this.width];
    // Words that would leave the picture stand on the other side of the mark.
    const beyond = this.x(column) + unit * (13 + 0.67 * wordPx() * text.textContent.length) > left + wide;
    if (beyond) setAll(text, { x: -unit * 13, "text-anchor": "end" });
    if (status.reasons.length) node("title", {}, group).textContent = [`${level}${use}`, ...status.reasons].join("\n");
    group.addEventListener("pointerdown", (event) => this.grab(event, level));
    group.addEventListener("focus", () => this.state.selected !== level && this.state.select(level));
    group.addEventListener("keydown", (event) => this.nudge(event, level));
  }

  /**
   * Where marks are close, the areas in which they can be caught overlap: the nearest one is meant.
   * @param {MouseEvent} event
   * @returns {{ level: string, pixels: number } | undefined}
   */
  nearest(event) {
    /** @param {string} level */
    const away = (level) => {
      const [row, column] = this.state.marks[this.name][level].centroid;
      const at = new DOMPoint(this.x(column), this.y(row)).matrixTransform(this.screen);
      return Math.hypot(at.x - event.clientX, at.y - event.clientY);
    };
    const found = Object.keys(this.state.marks[this.name]).map((level) => ({ level, pixels: away(level) }));
    return found.sort((a, b) => a.pixels - b.pixels)[0];
  }

  /** @type {(event: PointerEvent, touched: string) => void} */
  grab(event, touched) {
    if (event.button !== 0) return;
    event.preventDefault();
    event.stopPropagation();
    const { corner } = /** @type {SVGElement} */ (event.target).dataset;
    const level = corner === undefined ? this.nearest(event)?.level ?? touched : touched;
    this.state.select(level);
    const mark = this.state.marks[this.name][level];
    const from = corner === undefined ? mark.centroid : mark.corners?.[Number(corner)] ?? mark.centroid;
    const at = this.pixel(event);
    const step = [from[0] - at[0], from[1] - at[1]];
    let merge = false;
    this.state.dragging = true;
    this.drag(event, (now) => {
      const [row, column] = this.pixel(now);
      if (corner === undefined) this.state.move(this.name, level, row + step[0], column + step[1], merge);
      else this.state.moveCorner(this.name, level, Number(corner), row + step[0], column + step[1], merge);
      merge = true;
    }, () => {
      this.state.dragging = false;
      this.focus(`[data-level="${level}"]`);
      this.state.changed("settled");
    });
  }

  /** @type {(event: KeyboardEvent, level: string) => void} */
  nudge(event, level) {
    /** @type {Record<string, Pixel>} */
    const steps = {
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      ArrowLeft: [0, this.flipped ? 1 : -1],
      ArrowRight: [0, this.flipped ? -1 : 1],
    };
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
    const mark = this.state.marks[this.name][this.state.selected ?? ""];
    this.drawLine(this.line, mark ? mark.centroid[0] : null);
  }

  /**
   * The height that the pointer shows, in this film or the other one.
   * @param {number | null} row
   */
  drawPointer(row) {
    this.drawLine(this.pointer, row);
  }

  /** @type {(line: SVGLineElement, row: number | null) => void} */
  drawLine(line, row) {
    const there = row !== null && row >= -0.5 && row <= this.rows - 0.5;
    line.setAttribute("visibility", there ? "visible" : "hidden");
    if (!there) return;
    // Beyond the film on both sides: as far as the picture can reach.
    setAll(line, { x1: -4 * this.width, x2: 5 * this.width, y1: this.y(row), y2: this.y(row) });
  }
}
