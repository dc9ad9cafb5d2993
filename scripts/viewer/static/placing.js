// A film as the user turns, mirrors and inverts it, drawn at once; the service does the same when it reads the film.

const SVG = "http://www.w3.org/2000/svg";

/**
 * @param {string} name
 * @param {Record<string, string | number>} attributes
 */
export function svg(name, attributes = {}) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, String(value));
  return made;
}

/**
 * Size of the film on the screen, in columns of its file, and the way there from (column, row).
 * @param {ChosenFilm} film
 */
export function placed(film) {
  const [rows, columns] = film.shape;
  const height = rows * (film.pixel_mm ? film.pixel_mm[0] / film.pixel_mm[1] : 1);
  const lies = film.turn % 180 === 90;
  const [width, tall] = lies ? [height, columns] : [columns, height];
  /** @type {Record<number, number[]>} */
  const turns = {
    0: [1, 0, 0, 1, 0, 0],
    90: [0, 1, -1, 0, height, 0],
    180: [-1, 0, 0, -1, columns, height],
    270: [0, -1, 1, 0, 0, columns],
  };
  const [a, b, c, d, e, f] = turns[film.turn];
  const matrix = film.mirror ? [-a, b, -c, d, width - e, f] : [a, b, c, d, e, f];
  return { width, height: tall, matrix, columns, rows: height };
}

/**
 * Draws it into an empty or an older picture.
 * @param {Element} picture
 * @param {ChosenFilm | null} film
 */
export function draw(picture, film) {
  picture.replaceChildren();
  if (!film) return;
  const { width, height, matrix, columns, rows } = placed(film);
  picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const image = svg("image", {
    href: film.url,
    width: columns,
    height: rows,
    preserveAspectRatio: "none",
    transform: `matrix(${matrix.join(" ")})`,
  });
  if (film.invert) image.setAttribute("class", "inverted");
  picture.append(image);
}
