// What is in sight of both films: always at one scale, and at one height where heights are shared.

import { matchingRow, project } from "./geometry.js";
import { other } from "./levels.js";
import { columnAt } from "./marks.js";

/** @import { Radiograph } from "./radiograph.js" */
/** @import { State } from "./state.js" */

// A film can be magnified until so little of its width is in sight, and made so much smaller than it fits.
const LEAST_WIDTH_MM = 20;
const SMALLER = 2;

export class Sight {
  /** @param {State} state */
  constructor(state) {
    this.state = state;
    /** @type {Radiograph[]} */
    this.films = [];
    /** Of a screen pixel, in both films. */
    this.mm = 1;
    /** All of both films is in sight; it is kept so if their places on the page change. */
    this.fitted = true;
    this.watch = new ResizeObserver(() => this.fitted ? this.fit() : this.show());
  }

  /** @param {Radiograph} film */
  add(film) {
    this.films.push(film);
    this.watch.observe(film.svg);
  }

  /**
   * Where a film shows the height that both films have in common, mm from its upper edge.
   * @param {Radiograph} film
   */
  level(film) {
    const { geometry } = this.state.opened;
    return film.y(project(geometry[film.name], geometry.ap.isocentre_mm)[0]);
  }

  fit() {
    if (!this.state.case) return;
    const shared = this.state.heightsShared;
    const parts = this.films.map((film) => {
      const zero = shared ? this.level(film) : 0;
      return { film, zero, size: film.size(), low: -zero, high: film.height - zero };
    });
    // Where heights are shared, what is to be seen reaches from the highest edge to the lowest one.
    const low = Math.min(...parts.map((part) => part.low));
    const high = Math.max(...parts.map((part) => part.high));
    const tall = Math.min(...parts.map(({ size }) => size.height));
    if (tall <= 0 || parts.some(({ size }) => size.width <= 0)) return;
    this.mm = Math.max(...parts.map(({ film, size }) => film.width / size.width), (high - low) / tall);
    for (const { film, zero } of parts) {
      film.middle = film.width / 2;
      const centre = shared ? (low + high) / 2 + zero : film.height / 2;
      film.top = centre - (tall * this.mm) / 2;
    }
    this.fitted = true;
    this.show();
  }

  show() {
    if (this.state.case) this.films.forEach((film) => film.look(this.mm));
  }

  /**
   * Both films larger or smaller about a point of one of them, mm.
   * @type {(film: Radiograph, at: DOMPoint, factor: number) => void}
   */
  zoom(film, at, factor) {
    const fits = Math.max(...this.films.map((each) => each.width / each.size().width));
    const mm = Math.min(Math.max(this.mm * factor, LEAST_WIDTH_MM / film.size().width), fits * SMALLER);
    const scale = mm / this.mm;
    const [middle, top] = [at.x - (at.x - film.middle) * scale, at.y - (at.y - film.top) * scale];
    // The other film keeps its own centre, unless it follows in height.
    for (const each of this.films) each.top += (each.size().height * (this.mm - mm)) / 2;
    this.mm = mm;
    this.place(film, middle, top);
  }

  /**
   * The middle and the upper edge of what is in sight of a film, mm; the other one goes along in height.
   * @type {(film: Radiograph, middle: number, top: number) => void}
   */
  place(film, middle, top) {
    Object.assign(film, { middle, top });
    if (this.state.heightsShared) {
      for (const each of this.films) each.top = top - this.level(film) + this.level(each);
    }
    this.fitted = false;
    this.show();
  }

  /**
   * A line through both films at the height of a pixel of one of them; none without a pixel.
   * @type {(film: Radiograph, pixel: Pixel | null) => void}
   */
  point(film, pixel) {
    if (!this.state.case) return;
    for (const each of this.films) each.drawPointer(pixel && this.row(film, pixel, each));
  }

  /**
   * The row of a film at the height of a pixel of another; null where heights are not shared.
   * @type {(from: Radiograph, pixel: Pixel, to: Radiograph) => number | null}
   */
  row(from, pixel, to) {
    if (from === to) return pixel[0];
    if (!this.state.heightsShared) return null;
    const { geometry } = this.state.opened;
    const there = other(from.name);
    const column = columnAt(this.state.marks[there], pixel[0], this.state.opened, there) ?? to.columns / 2;
    return matchingRow(geometry[from.name], pixel, geometry[there], column);
  }
}
