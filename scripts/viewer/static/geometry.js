// Where a height in one film lies in the other: the same arithmetic as scripts/geometry/biplanar.py.

const add = (a, b, s = 1) => a.map((v, i) => v + s * b[i]);
const dot = (a, b) => a.reduce((sum, v, i) => sum + v * b[i], 0);
const DIVERGES = { parallel: [0, 0], slot: [0, 1], cone: [1, 1] };

// The line that pixel [row, column] of a view sees: a point on it and a direction, mm.
function ray(view, pixel) {
  const axes = [view.row_direction, view.column_direction];
  const diverges = DIVERGES[view.beam];
  const fan = diverges[0] || diverges[1];
  let origin = [...view.isocentre_mm];
  let direction = [...view.beam_direction];
  if (fan) {
    origin = add(origin, view.beam_direction, -view.source_to_isocentre_mm);
    direction = direction.map((v) => v * view.source_to_detector_mm);
  }
  for (const i of [0, 1]) {
    const offset = (pixel[i] - view.principal_point[i]) * view.pixel_spacing_mm[i];
    if (diverges[i]) direction = add(direction, axes[i], offset);
    else origin = add(origin, axes[i], offset);
  }
  return [origin, direction];
}

// World point -> [row, column].
export function project(view, point) {
  const relative = add(point, view.isocentre_mm, -1);
  const diverges = DIVERGES[view.beam];
  const depth = (view.source_to_isocentre_mm ?? 1) + dot(relative, view.beam_direction);
  return [view.row_direction, view.column_direction].map((axis, i) => {
    const magnification = diverges[i] ? view.source_to_detector_mm / depth : 1;
    return (dot(relative, axis) * magnification) / view.pixel_spacing_mm[i] + view.principal_point[i];
  });
}

// The row of the other view at `column` that shows the same height as `pixel` of this one.
export function matchingRow(from, pixel, to, column) {
  const [origin, direction] = ray(from, pixel);
  const middle = dot(add(to.isocentre_mm, origin, -1), direction) / dot(direction, direction);
  const step = 50 / Math.sqrt(dot(direction, direction));
  const [a, b] = [middle - step, middle + step].map((t) => project(to, add(origin, direction, t)));
  if (Math.abs(b[1] - a[1]) < 1e-9) return (a[0] + b[0]) / 2;
  return a[0] + ((b[0] - a[0]) * (column - a[1])) / (b[1] - a[1]);
}

// World corners of a film, as it lies where the beam passes a point: upper left, upper right, lower left, lower right.
export function filmCorners(view, [rows, columns], point) {
  return [[-0.5, -0.5], [-0.5, columns - 0.5], [rows - 0.5, -0.5], [rows - 0.5, columns - 0.5]].map((pixel) => {
    const [origin, direction] = ray(view, pixel);
    return add(origin, direction, dot(add(point, origin, -1), view.beam_direction) / dot(direction, view.beam_direction));
  });
}

// How far the rays through two marks pass each other, mm.
export function residual(geometry, apPixel, latPixel) {
  const [o, d] = ray(geometry.ap, apPixel);
  const [p, e] = ray(geometry.lat, latPixel);
  const cross = [d[1] * e[2] - d[2] * e[1], d[2] * e[0] - d[0] * e[2], d[0] * e[1] - d[1] * e[0]];
  return Math.abs(dot(add(p, o, -1), cross)) / Math.sqrt(dot(cross, cross));
}
