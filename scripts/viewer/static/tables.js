// Rows and cells of the page's tables, and how lengths are written in them.

import { element } from "./dom.js";

/** @import { State } from "./state.js" */

/** @type {(row: HTMLTableRowElement, content: string | Node, className?: string) => HTMLTableCellElement} */
export function cell(row, content, className = "") {
  const made = row.insertCell();
  made.className = className;
  made.append(content);
  return made;
}

/** @type {(checked: boolean, label: string, action: (checked: boolean) => void) => HTMLInputElement} */
export function box(checked, label, action) {
  const made = Object.assign(document.createElement("input"), { type: "checkbox", checked });
  made.setAttribute("aria-label", label);
  made.addEventListener("change", () => action(made.checked));
  made.addEventListener("click", (event) => event.stopPropagation());
  return made;
}

/** @param {string} id */
export function bodyOf(id) {
  return element(id, HTMLTableElement).tBodies[0];
}

/** @type {(state: State) => number} */
const scaleSd = (state) => Math.max(...(state.case?.scale_sd ?? [0]));

/**
 * A length in mm; of films that are not calibrated it is marked as an estimate where it stands.
 * @type {(state: State, text: string) => string}
 */
export const estimated = (state, text) => (scaleSd(state) > 0 ? `≈ ${text}` : text);

/** @type {(state: State) => string} */
export function scaleNote(state) {
  const sd = scaleSd(state);
  return sd > 0 ? `Films not calibrated: every mm (≈) is an estimate, ± ${(100 * sd).toFixed(0)} %.` : "";
}

/** @type {(vertebrae: number) => string} */
export const counted = (vertebrae) => vertebrae === 1 ? "1 vertebra" : `${vertebrae} vertebrae`;
