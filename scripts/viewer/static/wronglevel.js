// Whether the levels are right: what speaks against them, how to count, and the user's word.

import { buttonOf, byId } from "./dom.js";
import { Refused } from "./levels.js";

/** @import { State } from "./state.js" */

/** @type {(state: State, onError: (text: string) => void) => void} */
export function askForLevels(state, onError) {
  byId("levels-right").addEventListener("click", () => {
    const { disorder } = state.doubts();
    if (disorder.length) return onError(`${disorder[0]}: correct that before you confirm the levels`);
    state.confirm();
  });
  for (const button of document.querySelectorAll("[data-is-level]")) {
    button.addEventListener("click", () => {
      const { selected } = state;
      if (!selected) return onError("Select the vertebra first: click its mark.");
      try {
        state.relabel(selected, /** @type {HTMLElement} */ (button).dataset.isLevel ?? selected, "all");
      } catch (error) {
        if (!(error instanceof Refused)) throw error;
        onError(error.message);
      }
    });
  }
  state.onChange(() => state.case && draw(state));
}

/** @param {State} state */
function draw(state) {
  const { disorder, gaps } = state.doubts();
  const left = gaps.length && !state.confirmed ? [`not marked between others: ${gaps.join(", ")}`] : [];
  const unsure = state.uncertain ? ["all levels may be one too high or too low"] : [];
  const doubts = [...disorder, ...unsure, ...left];
  byId("uncertain").hidden = !doubts.length;
  byId("level-doubts").textContent = `${doubts.join("; ")}.`;
  byId("levels-state").textContent = state.confirmed ? "Levels confirmed by you." : "Levels not confirmed.";
  byId("levels-state").classList.toggle("confirmed", state.confirmed);
  buttonOf("levels-right").hidden = state.confirmed || !state.levels().length;
}
