// Marks set and moved on a film, by mouse and keyboard.

import { Refused } from "./levels.js";

/** @import { Radiograph } from "./radiograph.js" */

// Half the width of a drawn mark, screen pixels: a double click this near is meant for the mark.
const SHAPE_PX = 7;

/**
 * @param {Radiograph} film
 * @param {MouseEvent} event
 */
export function addMark(film, event) {
  if (!film.state.case || !film.ready || (nearest(film, event)?.pixels ?? Infinity) < SHAPE_PX) return;
  const [row, column] = film.pixel(event);
  if (row < 0 || column < 0 || row > film.rows - 1 || column > film.columns - 1) return;
  try {
    const level = film.state.add(film.name, row, column);
    film.focusMark(`[data-level="${level}"]`);
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    film.onError(error.message);
  }
}

/**
 * Where marks are close, the areas in which they can be caught overlap: the nearest one is meant.
 * @param {Radiograph} film
 * @param {MouseEvent} event
 * @returns {{ level: string, pixels: number } | undefined}
 */
function nearest(film, event) {
  /** @param {string} level */
  const away = (level) => {
    const [row, column] = film.state.marks[film.name][level].centroid;
    const at = new DOMPoint(film.x(column), film.y(row)).matrixTransform(film.screen);
    return Math.hypot(at.x - event.clientX, at.y - event.clientY);
  };
  const found = Object.keys(film.state.marks[film.name]).map((level) => ({ level, pixels: away(level) }));
  return found.sort((a, b) => a.pixels - b.pixels)[0];
}

/** @type {(film: Radiograph, event: PointerEvent, touched: string) => void} */
export function grab(film, event, touched) {
  if (event.button !== 0) return;
  event.preventDefault();
  event.stopPropagation();
  const level = nearest(film, event)?.level ?? touched;
  film.state.select(level);
  if (!film.ready) return;
  const mark = film.state.marks[film.name][level];
  const at = film.pixel(event);
  const step = [mark.centroid[0] - at[0], mark.centroid[1] - at[1]];
  let merge = false;
  film.state.dragging = true;
  film.drag(event, (now) => {
    // It can be removed while it is dragged.
    if (!film.state.marks[film.name][level]) return;
    const [row, column] = film.pixel(now);
    film.state.move(film.name, level, row + step[0], column + step[1], merge);
    merge = true;
  }, () => {
    film.state.dragging = false;
    film.focusMark(`[data-level="${level}"]`);
    film.state.changed("settled");
  });
}

/** @type {(film: Radiograph, event: KeyboardEvent, level: string) => void} */
export function nudge(film, event, level) {
  /** @type {Record<string, Pixel>} */
  const steps = {
    ArrowUp: [-1, 0],
    ArrowDown: [1, 0],
    ArrowLeft: [0, film.flipped ? 1 : -1],
    ArrowRight: [0, film.flipped ? -1 : 1],
  };
  const step = steps[event.key];
  if (!step) return;
  event.preventDefault();
  event.stopPropagation();
  if (!film.ready) return;
  const far = event.shiftKey ? 10 : 1;
  const [row, column] = film.state.marks[film.name][level].centroid;
  film.state.move(film.name, level, row + step[0] * far, column + step[1] * far);
  film.state.changed("settled");
}
