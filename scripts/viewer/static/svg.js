// Elements of pictures.

const SVG = "http://www.w3.org/2000/svg";

/**
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} name
 * @param {Record<string, string | number | boolean>} [attributes]
 * @param {Element | null} [parent]
 */
export function node(name, attributes = {}, parent = null) {
  const made = document.createElementNS(SVG, name);
  setAll(made, attributes);
  parent?.append(made);
  return made;
}

/** @type {(target: Element, attributes: Record<string, string | number | boolean>) => void} */
export function setAll(target, attributes) {
  for (const [key, value] of Object.entries(attributes)) target.setAttribute(key, String(value));
}

/** How large words on films are, screen pixels: as the page's own where the screen is very large. */
export const wordPx = () => innerWidth >= 2400 ? 18 : 12;
