// What this browser keeps of cases, so that a reload, a crash or another case loses nothing: steps, never films.

/** @import { State } from "./state.js" */

const PREFIX = "draft:";
const MOST_STEPS = 40;
const DAYS = 7;

// Browsers give locks only to pages of https and of this machine; the windows of others ask each other.
const windows = navigator.locks ? null : new BroadcastChannel("drafts");
const ASKED = "what do you have open?";
const ANSWERED_MS = 300;
/** Key of the draft whose case this window has open. */
let open = "";

windows?.addEventListener("message", ({ data }) => {
  if (data === ASKED && open) windows.postMessage(open);
});

/** @param {string} id */
export const dropDraft = (id) => localStorage.removeItem(PREFIX + id);

/**
 * Writes what is there to lose: steps, or shapes that took time. The last steps are enough.
 * @param {State} state
 * @param {string} [id] of the draft; the case's if there is none
 */
export function keepDraft(state, id = state.case?.id) {
  const { case: open, history, position } = state;
  if (!open || !id) return;
  if (history.length < 2 && !Object.keys(state.results).length) return dropDraft(id);
  const first = Math.max(0, position + 1 - MOST_STEPS);
  const steps = history.slice(first, first + MOST_STEPS).map((step) => ({ ...step, chosen: [...step.chosen] }));
  /** @type {Draft} */
  const draft = {
    id,
    name: open.name,
    films: open.films,
    at: Date.now(),
    position: position - first,
    steps,
  };
  localStorage.setItem(PREFIX + id, JSON.stringify(draft));
}

/**
 * Drafts that no window has open, newest first; those that nobody came back for in a week go.
 * @returns {Promise<Draft[]>}
 */
export async function freeDrafts() {
  const keys = Object.keys(localStorage).filter((name) => name.startsWith(PREFIX) && name !== open);
  const held = keys.length ? await heldKeys() : [];
  const found = [];
  for (const key of keys) {
    /** @type {Draft} */
    const draft = JSON.parse(localStorage.getItem(key) ?? "{}");
    if (held.includes(key)) continue;
    if (!(Date.now() - draft.at <= DAYS * 86_400_000)) localStorage.removeItem(key);
    else found.push(draft);
  }
  return found.sort((a, b) => b.at - a.at);
}

/** Keys of the drafts whose cases other windows have open. */
async function heldKeys() {
  if (!windows) return (await navigator.locks.query()).held?.map((lock) => lock.name ?? "") ?? [];
  /** @type {string[]} */
  const answers = [];
  /** @param {MessageEvent<string>} event */
  const take = ({ data }) => answers.push(data);
  windows.addEventListener("message", take);
  windows.postMessage(ASKED);
  await new Promise((resolve) => setTimeout(resolve, ANSWERED_MS));
  windows.removeEventListener("message", take);
  return answers;
}

let release = () => {};
/** @type {Promise<unknown> | undefined} until the case that this window had open is let go */
let held;
/**
 * Tells other windows of this browser that a case is open in this one.
 * @param {string} id
 */
export async function hold(id) {
  const key = PREFIX + id;
  open = key;
  release();
  await held;
  held = navigator.locks?.request(key, () => new Promise((resolve) => (release = () => resolve(null))));
}
