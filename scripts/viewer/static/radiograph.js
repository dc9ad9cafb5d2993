// One film: its picture, what is drawn on it, and what of it is in sight.

import { filmUrl } from "./api.js";
import { drawMarks } from "./filmmarks.js";
import { drawOutlines } from "./filmoutlines.js";
import { addTools } from "./filmtools.js";
import { addMark } from "./markediting.js";
import { drawAngleLabels, drawPlateLines } from "./platelines.js";
import { node, setAll } from "./svg.js";

/** @import { Sight } from "./sight.js" */
/** @import { State } from "./state.js" */

/** @type {PerView<[string, string]>} */
const LETTERS = { ap: ["R", "L"], lat: ["A", "P"] };
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
    this.image = node("image", {}, this.svg);
    /** The case whose picture it is. */
    this.pictured = "";
    /** The picture is there: marks can be set and moved. */
    this.ready = false;
    this.missing = Object.assign(document.createElement("p"), { className: "missing", role: "alert" });
    this.section.append(this.missing);
    this.outlines = node("g", { class: "outlines" }, this.svg);
    this.plates = node("g", { class: "plates" }, this.svg);
    this.line = node("line", { class: "height-line", visibility: "hidden" }, this.svg);
    this.pointer = node("line", { class: "height-line pointer", visibility: "hidden" }, this.svg);
    this.marks = node("g", { class: "marks" }, this.svg);
    this.angles = node("g", { class: "angles" }, this.svg);
    this.letters = node("g", { class: "letters", "aria-hidden": "true" }, this.svg);
    addTools(this);
    this.svg.addEventListener("wheel", (event) => this.zoom(event), { passive: false });
    this.svg.addEventListener("pointerdown", (event) => this.pan(event));
    this.svg.addEventListener("dblclick", (event) => addMark(this, event));
    this.svg.addEventListener("pointermove", (event) => sight.point(this, this.pixel(event)));
    this.svg.addEventListener("pointerleave", () => sight.point(this, null));
    state.onChange((what) => (what === "case" ? this.open() : this.draw(what)));
    sight.add(this);
  }

  open() {
    const view = this.state.opened.views[this.name];
    [this.rows, this.columns] = view.shape;
    [this.rowMm, this.columnMm] = view.pixel_mm;
    this.width = this.columns * this.columnMm;
    this.height = this.rows * this.rowMm;
    this.showPicture();
    setAll(this.image, { x: 0, y: 0, width: this.width, height: this.height });
    this.image.setAttribute("transform", this.flipped ? `translate(${this.width} 0) scale(-1 1)` : "");
    this.drawWindow();
    this.draw("case");
  }

  /** The case's picture, in an element of its own: browsers show an element's old picture until the new one is there. */
  showPicture() {
    const { id } = this.state.opened;
    if (id === this.pictured) return;
    const old = this.image;
    const image = node("image", { preserveAspectRatio: "none", filter: `url(#window-${this.name})` });
    this.image = image;
    this.pictured = id;
    this.ready = false;
    this.missing.textContent = "";
    this.svg.setAttribute("aria-busy", "true");
    /** @param {boolean} there */
    const end = (there) => {
      if (this.image !== image) return;
      this.ready = there;
      this.missing.textContent = there ? "" : `${this.name.toUpperCase()}: the picture could not be loaded`;
      this.svg.setAttribute("aria-busy", "false");
    };
    image.addEventListener("load", () => end(true));
    image.addEventListener("error", () => end(false));
    image.setAttribute("href", filmUrl(id, this.name));
    old.replaceWith(image);
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

  /**
   * Whether there is such a mark; it has the focus then.
   * @param {string} selector
   */
  focusMark(selector) {
    /** @type {SVGElement | null} */
    const found = this.marks.querySelector(selector);
    found?.focus();
    return found !== null;
  }

  /** @param {Change} what */
  draw(what) {
    if (!this.state.case || !this.box) return;
    if (["case", "marks", "results", "warnings", "look"].includes(what)) drawOutlines(this);
    if (what !== "selection") drawPlateLines(this, this.plates);
    if (this.state.dragging && what === "selection") return;
    drawMarks(this);
    drawAngleLabels(this, this.angles);
    this.drawHeightLine();
  }

  // Screen pixels in millimetres, so that marks keep their size while the film is zoomed.
  unit() {
    return 1 / (this.screen.a || 1);
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
