// Angles and sizes of what is current; what is not is withheld, with the reason.

import { drawCurves } from "./curves.js";
import { byId } from "./dom.js";
import { bodyOf, cell, estimated } from "./tables.js";

/** @import { State } from "./state.js" */
/** @import { Work } from "./work.js" */

/** @type {(state: State, work: Work) => void} */
export function keepMeasures(state, work) {
  state.onChange((what) => {
    if (state.case && what !== "selection" && what !== "look") draw(state, work);
  });
}

/** @type {(state: State, work: Work) => void} */
function draw(state, work) {
  const measured = state.measuredNow;
  const { vertebrae = [] } = measured ?? {};
  drawCurves(state, measured);
  const table = bodyOf("vertebra-measurements");
  table.replaceChildren();
  for (const row of vertebrae) {
    const heights = row.heights_mm && estimated(state, row.heights_mm);
    line(table, [row.level, row.rotation || "withheld", row.wedge || "withheld", heights || "withheld"]);
    if (!row.missing) continue;
    const why = cell(table.insertRow(), row.missing, "reasons");
    why.colSpan = 4;
  }
  byId("vertebra-measurements").hidden = vertebrae.length === 0;
  byId("measure-note").textContent = note(state, work, measured);
}

/** @type {(state: State, work: Work, measured: Measurements | undefined) => string} */
function note(state, work, measured) {
  /** @type {(use: Status["use"]) => string} */
  const those = (use) =>
    state.sorted(Object.keys(state.results).filter((level) => state.status(level).use === use)).join(", ");
  const [old, unticked] = [those("outdated"), those("not ticked")];
  const without = (old && `Without ${old}: outdated, reconstruct again. `) +
    (unticked && `Without ${unticked}: not ticked. `);
  const bad = measured?.vertebrae?.filter((row) => row.use === "do not use").map((row) => row.level) ?? [];
  const careful = bad.length ? `Angles of the spine are without ${bad.join(", ")}: do not use. ` : "";
  if (measured) return without + careful + measured.note;
  if (work.measuring) return `${without}Measuring …`;
  if (work.measureError) return work.measureError;
  return without || "After the reconstruction.";
}

/** @type {(body: HTMLTableSectionElement, texts: string[]) => void} */
function line(body, texts) {
  const row = body.insertRow();
  for (const text of texts) cell(row, text, text === "withheld" ? "withheld" : "");
}
