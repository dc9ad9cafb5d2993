// Elements of index.html, by their ids and as what they are.

/**
 * @template {HTMLElement} T
 * @param {string} id
 * @param {new () => T} kind
 */
export function element(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} '${id}'`);
  return found;
}

export const byId = (/** @type {string} */ id) => element(id, HTMLElement);
export const inputOf = (/** @type {string} */ id) => element(id, HTMLInputElement);
export const buttonOf = (/** @type {string} */ id) => element(id, HTMLButtonElement);
export const dialogOf = (/** @type {string} */ id) => element(id, HTMLDialogElement);

/**
 * The one element within another that a selector means.
 * @param {ParentNode} parent
 * @param {string} selector
 */
export function within(parent, selector) {
  const found = parent.querySelector(selector);
  if (!(found instanceof HTMLElement)) throw new Error(`the page has no '${selector}'`);
  return found;
}

export const messageOf = (/** @type {unknown} */ error) => error instanceof Error ? error.message : String(error);
