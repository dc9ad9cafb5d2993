// Single marks: made, moved, and where one may lie.

import { other, VIEWS } from "./levels.js";

/**
 * What can no longer be changed, down to the last pixel.
 * @template T
 * @param {T} value
 * @returns {T}
 */
export function frozen(value) {
  if (value && typeof value === "object" && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(frozen);
  }
  return value;
}

/** @type {(value: number, most: number) => number} */
export const clamp = (value, most) => Math.min(Math.max(value, 0), most);

/** @type {(centroid: Pixel) => Mark} */
export const newMark = (centroid) => ({ centroid, corners: null, confidence: 1, set_by: "edited" });

/** @type {(views: Case["marks"]) => Marks} */
export function toMarks(views) {
  const [ap, lat] = VIEWS.map((view) => Object.fromEntries(views[view].vertebrae.map((mark) => [mark.level, mark])));
  return { ap, lat };
}

/**
 * A mark goes to another place; who set it, and how sure that is, stays as it was.
 * @type {(mark: Mark, place: Pixel) => void}
 */
export function moveTo(mark, [row, column]) {
  const step = [row - mark.centroid[0], column - mark.centroid[1]];
  mark.centroid = [row, column];
  mark.corners = mark.corners?.map((corner) => [corner[0] + step[0], corner[1] + step[1]]) ?? null;
}

/**
 * A person puts a mark where it belongs: as sure as a new one.
 * @type {(mark: Mark, place: Pixel) => void}
 */
export function setByHand(mark, place) {
  moveTo(mark, place);
  mark.set_by = "edited";
  mark.confidence = 1;
  delete mark.interpolated;
}

/**
 * Where the spine runs at a height of the other film, from the marks that are there.
 * @type {(marks: PerLevel<Mark>, row: number, description: Case, view: ViewName) => number | null}
 */
export function columnAt(marks, row, description, view) {
  const list = Object.values(marks).map((mark) => mark.centroid).sort((a, b) => a[0] - b[0]);
  if (!list.length) return null;
  const height = (row * description.views[view].pixel_mm[0]) / description.views[other(view)].pixel_mm[0];
  const below = list.findIndex((point) => point[0] > height);
  if (below < 0) return list[list.length - 1][1];
  if (below === 0) return list[0][1];
  const [a, b] = [list[below - 1], list[below]];
  return a[1] + ((b[1] - a[1]) * (height - a[0])) / (b[0] - a[0]);
}
