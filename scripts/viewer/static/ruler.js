// A line of known length on a film, from which the size of its pixels follows.

import { possible } from "./chosen.js";
import { buttonOf, byId, inputOf } from "./dom.js";
import { draw, placed, svg } from "./placing.js";

const HANDLE_PX = 9;

/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class Ruler {
  /** @param {(film: ChosenFilm, spacing: number, both: boolean) => void} use */
  constructor(use) {
    this.use = use;
    this.picture = /** @type {SVGSVGElement} */ (svg("svg", { role: "group", "aria-label": "The film with the line" }));
    byId("ruler-picture").append(this.picture);
    /** @type {ChosenFilm | null} */
    this.film = null;
    /** @type {[x: number, y: number][]} ends of the line, in columns of the film */
    this.ends = [];
    /** @type {number | null} the end that is dragged */
    this.held = null;
    this.zoom = 1;
    this.picture.addEventListener("pointerdown", (event) => this.press(event));
    this.picture.addEventListener("pointermove", (event) => this.move(event));
    for (const kind of ["pointerup", "pointercancel"]) {
      this.picture.addEventListener(kind, () => {
        this.held = null;
      });
    }
    inputOf("ruler-mm").addEventListener("input", () => this.tell());
    for (const [id, factor] of /** @type {[string, number][]} */ ([["ruler-in", 1.5], ["ruler-out", 1 / 1.5]])) {
      byId(id).addEventListener("click", () => {
        this.zoom = Math.min(Math.max(this.zoom * factor, 1), 12);
        this.look(middle(this.ends));
      });
    }
    byId("ruler-use").addEventListener("click", () => {
      const { film, spacing } = this;
      if (film && spacing) this.use(film, spacing, inputOf("ruler-both").checked);
    });
  }

  /**
   * @param {ChosenFilm} film
   * @param {string} what it is
   */
  open(film, what) {
    const { width, height } = placed(film);
    this.film = film;
    this.zoom = 1;
    this.ends = [[width / 2, height * 0.35], [width / 2, height * 0.65]];
    inputOf("ruler-mm").value = "";
    inputOf("ruler-both").checked = false;
    byId("ruler-title").textContent = `Known length on the ${what} film`;
    draw(this.picture, film);
    this.marks = svg("g");
    this.picture.append(this.marks);
    this.look([width / 2, height / 2]);
    this.handle(0).focus();
  }

  /** mm a pixel; null if the length is not there, or no film has such pixels. */
  get spacing() {
    const mm = Number(inputOf("ruler-mm").value.replace(",", "."));
    const spacing = mm / this.length;
    return possible(spacing) ? spacing : null;
  }

  get length() {
    const [[x, y], [u, v]] = this.ends;
    return Math.hypot(x - u, y - v);
  }

  /**
   * The part of the film that is shown, about a place.
   * @param {[number, number]} about
   */
  look([x, y]) {
    if (!this.film) return;
    const { width, height } = placed(this.film);
    const [w, h] = [width / this.zoom, height / this.zoom];
    const left = Math.min(Math.max(x - w / 2, 0), width - w);
    const top = Math.min(Math.max(y - h / 2, 0), height - h);
    this.picture.setAttribute("viewBox", `${left} ${top} ${w} ${h}`);
    this.tell();
  }

  /** Line, handles and the words below. */
  tell() {
    const unit = 1 / (this.picture.getScreenCTM()?.a || 1);
    if (!this.marks) return;
    if (!this.marks.childElementCount) {
      this.marks.append(svg("line", { class: "ruler" }));
      for (const end of [0, 1]) {
        const handle = svg("g", { class: "end", tabindex: 0, role: "button", "data-end": end });
        handle.append(svg("circle", { class: "hit" }), svg("circle", { class: "shape" }));
        handle.addEventListener("keydown", (event) => this.key(event, end));
        this.marks.append(handle);
      }
    }
    const [line, ...handles] = this.marks.children;
    const [[x1, y1], [x2, y2]] = this.ends;
    for (const [key, value] of Object.entries({ x1, y1, x2, y2 })) line.setAttribute(key, String(value));
    handles.forEach((handle, end) => {
      const [x, y] = this.ends[end];
      handle.setAttribute("transform", `translate(${x} ${y})`);
      const place = `column ${Math.round(x)}, row ${Math.round(y)}`;
      handle.setAttribute("aria-label", `End ${end + 1} of the line at ${place}; arrow keys move it, Shift by ten`);
      handle.children[0].setAttribute("r", String(2 * HANDLE_PX * unit));
      handle.children[1].setAttribute("r", String(HANDLE_PX * unit));
    });
    const { spacing } = this;
    const typed = inputOf("ruler-mm").value.trim();
    byId("ruler-result").textContent = `${this.length.toFixed(1)} pixels long` +
      (spacing ? `: ${spacing.toFixed(4)} mm a pixel` : typed ? ": no film has such pixels, check the length" : "");
    buttonOf("ruler-use").disabled = !spacing;
  }

  /** @param {number} end */
  handle(end) {
    const found = this.marks?.querySelector(`[data-end="${end}"]`);
    if (!(found instanceof SVGElement)) throw new Error("the line is not drawn");
    return found;
  }

  /** @param {PointerEvent} event */
  press(event) {
    const end = event.target instanceof Element ? event.target.closest("[data-end]")?.getAttribute("data-end") : null;
    const at = this.at(event);
    // Beside the line a new one begins.
    if (end === null || end === undefined) this.ends = [at, at];
    this.held = Number(end ?? 1);
    this.picture.setPointerCapture(event.pointerId);
    this.handle(this.held).focus();
    event.preventDefault();
    this.tell();
  }

  /** @param {PointerEvent} event */
  move(event) {
    if (this.held === null) return;
    this.ends = this.ends.with(this.held, this.at(event));
    this.tell();
  }

  /**
   * @param {KeyboardEvent} event
   * @param {number} end
   */
  key(event, end) {
    const way = ARROWS[event.key];
    if (!way) return;
    event.preventDefault();
    const step = event.shiftKey ? 10 : 1;
    const [x, y] = this.ends[end];
    this.ends = this.ends.with(end, this.inside([x + step * way[0], y + step * way[1]]));
    if (this.zoom > 1) this.look(this.ends[end]);
    else this.tell();
  }

  /**
   * Where a pointer is on the film.
   * @param {PointerEvent} event
   */
  at(event) {
    const { x, y } = new DOMPoint(event.clientX, event.clientY).matrixTransform(this.picture.getScreenCTM()?.inverse());
    return this.inside([x, y]);
  }

  /**
   * @param {[number, number]} point
   * @returns {[number, number]}
   */
  inside([x, y]) {
    if (!this.film) return [x, y];
    const { width, height } = placed(this.film);
    return [Math.min(Math.max(x, 0), width), Math.min(Math.max(y, 0), height)];
  }
}

/**
 * @param {[number, number][]} ends
 * @returns {[number, number]}
 */
const middle = ([[x, y], [u, v]]) => [(x + u) / 2, (y + v) / 2];
