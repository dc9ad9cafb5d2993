// Where a height in one film lies in the other: the same mathematics as scripts/geometry/biplanar.py.

/** @type {(a: number[], b: number[], s?: number) => number[]} */
const add = (a, b, s = 1) => a.map((v, i) => v + s * b[i]);
/** @type {(a: number[], b: number[]) => number} */
const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
const length = (/** @type {number[]} */ a) => Math.sqrt(dot(a, a));
/** Per beam: do the rays diverge along rows, columns? */
const DIVERGES = { parallel: [false, false], slot: [false, true], cone: [true, true] };

/**
 * The distances of a view whose rays diverge.
 * @param {View} view
 */
function distances({ source_to_isocentre_mm: isocentre, source_to_detector_mm: detector }) {
  if (isocentre === null || detector === null) throw new Error("rays that diverge need a source");
  return { isocentre, detector };
}

/**
 * The line that a pixel of a view sees: a point on it and a direction, mm.
 * @param {View} view
 * @param {Pixel} pixel
 */
function ray(view, pixel) {
  const axes = [view.row_direction, view.column_direction];
  const diverges = DIVERGES[view.beam];
  let origin = view.isocentre_mm;
  let direction = view.beam_direction;
  if (diverges.includes(true)) {
    const { isocentre, detector } = distances(view);
    origin = add(origin, direction, -isocentre);
    direction = direction.map((v) => v * detector);
  }
  for (const i of [0, 1]) {
    const offset = (pixel[i] - view.principal_point[i]) * view.pixel_spacing_mm[i];
    if (diverges[i]) direction = add(direction, axes[i], offset);
    else origin = add(origin, axes[i], offset);
  }
  return { origin, direction };
}

/**
 * World point, mm -> pixel.
 * @param {View} view
 * @param {number[]} point
 */
export function project(view, point) {
  const relative = add(point, view.isocentre_mm, -1);
  const diverges = DIVERGES[view.beam];
  const [row, column] = [view.row_direction, view.column_direction].map((axis, i) => {
    let magnification = 1;
    if (diverges[i]) {
      const { isocentre, detector } = distances(view);
      magnification = detector / (isocentre + dot(relative, view.beam_direction));
    }
    return (dot(relative, axis) * magnification) / view.pixel_spacing_mm[i] + view.principal_point[i];
  });
  return /** @type {Pixel} */ ([row, column]);
}

/**
 * The row of the other view that shows, in a column, what a pixel of this one sees.
 * @param {View} from
 * @param {Pixel} pixel
 * @param {View} to
 * @param {number} column
 */
export function matchingRow(from, pixel, to, column) {
  const { origin, direction } = ray(from, pixel);
  const start = add(origin, to.isocentre_mm, -1);
  // Points of a column lie `across` from the central ray: everywhere as far, or in proportion to the source's distance.
  let across = (column - to.principal_point[1]) * to.pixel_spacing_mm[1];
  let excess = dot(start, to.column_direction) - across;
  let growth = dot(direction, to.column_direction);
  if (DIVERGES[to.beam][1]) {
    const { isocentre, detector } = distances(to);
    across /= detector;
    excess = dot(start, to.column_direction) - across * (isocentre + dot(start, to.beam_direction));
    growth -= across * dot(direction, to.beam_direction);
  }
  // A ray that stays in its column: the height where it passes the isocentre.
  const along = Math.abs(growth) < 1e-9 * length(direction)
    ? -dot(start, direction) / dot(direction, direction)
    : -excess / growth;
  return project(to, add(origin, direction, along))[0];
}

/**
 * World corners of a film, as it lies where the beam passes a point: upper left, upper right, lower left, lower right.
 * @param {View} view
 * @param {[number, number]} shape
 * @param {number[]} point
 */
export function filmCorners(view, [rows, columns], point) {
  /** @type {Pixel[]} */
  const corners = [[-0.5, -0.5], [-0.5, columns - 0.5], [rows - 0.5, -0.5], [rows - 0.5, columns - 0.5]];
  return corners.map((pixel) => {
    const { origin, direction } = ray(view, pixel);
    const { beam_direction: beam } = view;
    return add(origin, direction, dot(add(point, origin, -1), beam) / dot(direction, beam));
  });
}

/**
 * How far the rays through two marks pass each other, mm.
 * @param {Geometry} geometry
 * @param {Pixel} apPixel
 * @param {Pixel} latPixel
 */
export function residual(geometry, apPixel, latPixel) {
  const { origin: o, direction: d } = ray(geometry.ap, apPixel);
  const { origin: p, direction: e } = ray(geometry.lat, latPixel);
  const cross = [d[1] * e[2] - d[2] * e[1], d[2] * e[0] - d[0] * e[2], d[0] * e[1] - d[1] * e[0]];
  return Math.abs(dot(add(p, o, -1), cross)) / length(cross);
}
