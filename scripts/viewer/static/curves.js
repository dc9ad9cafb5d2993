// The spine's angles: each with its end vertebrae, who chose them, and the way to choose others.

import { byId } from "./dom.js";
import { replaced, withdrawn } from "./ends.js";
import { bodyOf, cell } from "./tables.js";

/** @import { State } from "./state.js" */

/** @type {Record<EndVertebrae["measure"], string>} */
const NAMES = { cobb: "Cobb", kyphosis: "Kyphosis", lordosis: "Lordosis" };

/**
 * The table of angles; while those of other end vertebrae are on their way, no number is shown.
 * @type {(state: State, measured: Measurements | undefined) => void}
 */
export function drawCurves(state, measured) {
  const body = bodyOf("measurements");
  if (measured && !state.anglesNow) {
    for (const value of body.querySelectorAll(".angle")) value.textContent = "…";
    return;
  }
  const focus = focused();
  body.replaceChildren();
  const curves = measured?.curves ?? [];
  for (const curve of curves) drawCurve(state, curve);
  if (Object.keys(measured?.plates ?? {}).length > 1 && !curves.some(({ measure }) => measure === "cobb")) {
    drawCurve(state, { ...NO_CURVE, missing: measured?.no_curve ?? "" });
  }
  if (measured?.midline) {
    const [ends, angle] = measured.midline.split(": ");
    const row = body.insertRow();
    cell(row, `Line of bodies ${ends}`);
    cell(row, angle);
  }
  const again = focus && byId("measurements").querySelector(focus);
  if (again instanceof HTMLSelectElement) again.focus();
}

/** The program finds no curve: the user may measure one. @type {SpineCurve} */
const NO_CURVE = {
  measure: "cobb",
  upper: "",
  lower: "",
  chosen_by: "program",
  name: "Cobb",
  text: "",
  missing: "",
  drawn: "",
  lines: null,
};

/** The select that has the focus, as a selector of the one that is drawn in its place. */
function focused() {
  const select = document.activeElement;
  if (!(select instanceof HTMLSelectElement) || !select.closest("#measurements")) return "";
  const { upper, lower } = values(select);
  return `tr[data-measure="${select.dataset.measure}"][data-upper="${upper}"][data-lower="${lower}"] ` +
    `select[data-end="${select.dataset.end}"]`;
}

/**
 * What both selects of a row say.
 * @param {Element} within
 */
function values(within) {
  const row = within.closest("tr");
  const [upper, lower] = [...row?.querySelectorAll("select") ?? []].map((select) => select.value);
  return { upper, lower };
}

/** @type {(state: State, curve: SpineCurve) => void} */
function drawCurve(state, curve) {
  const body = bodyOf("measurements");
  const { measure, upper, lower, chosen_by, text, missing } = curve;
  const row = body.insertRow();
  cell(row, curve.name.replace(`${NAMES[measure]} ${upper}-${lower}`, NAMES[measure]), "curve");
  cell(row, text || "–", "angle");
  const below = body.insertRow();
  Object.assign(below.dataset, { measure, upper, lower });
  const holder = cell(below, "", "ends");
  holder.colSpan = 2;
  const levels = state.paired();
  const [top, bottom] = [upper, lower].map((level) => levels.indexOf(level));
  // Of each end only what leaves the upper one above the lower one.
  holder.append(
    select(state, curve, "upper", bottom < 0 ? levels : levels.slice(0, bottom)),
    "–",
    select(state, curve, "lower", levels.slice(top + 1)),
    " ",
  );
  if (chosen_by === "user") {
    const back = Object.assign(document.createElement("button"), { textContent: "program’s choice" });
    back.title = "Back to the end vertebrae that the program chooses";
    back.addEventListener("click", () => state.chooseEnds(`${measure} by the program`, withdrawn(state.ends, curve)));
    holder.append("end vertebrae set by you ", back);
  } else if (upper) holder.append("chosen by the program");
  if (missing) cell(body.insertRow(), missing, "reasons").colSpan = 2;
}

/** @type {(state: State, curve: SpineCurve, end: "upper" | "lower", levels: string[]) => HTMLSelectElement} */
function select(state, curve, end, levels) {
  const made = document.createElement("select");
  made.dataset.end = end;
  made.dataset.measure = curve.measure;
  made.setAttribute("aria-label", `${end} end vertebra, ${NAMES[curve.measure]}`);
  const names = levels.includes(curve[end]) ? levels : state.sorted([...levels, curve[end]].filter(Boolean));
  made.append(...names.map((level) => new Option(level, level)));
  if (!curve[end]) made.prepend(new Option("–", ""));
  made.value = curve[end];
  made.addEventListener("change", () => {
    const { upper, lower } = values(made);
    if (state.order.indexOf(upper) >= state.order.indexOf(lower) || !upper) return;
    state.chooseEnds(
      `${end} end, ${curve.measure}`,
      replaced(state.ends, curve, { measure: curve.measure, upper, lower }),
    );
  });
  return made;
}
