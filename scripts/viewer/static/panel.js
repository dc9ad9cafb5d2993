// The list of vertebrae, the measurements, and what can be taken away.

import { buttonOf, byId, element, inputOf, within } from "./dom.js";
import { residual } from "./geometry.js";
import { Refused } from "./levels.js";
import { bodyOf, box, cell, estimated, scaleNote } from "./tables.js";
import { grade, statusColour } from "./signs.js";

/** @import { State } from "./state.js" */

export const EXPORTS = [
  ["zip", "everything (zip)"],
  ["html", "report"],
  ["stl", "STL"],
  ["obj", "OBJ"],
  ["ply", "PLY"],
  ["glb", "glTF"],
  ["nii.gz", "NIfTI"],
  ["dicom", "DICOM SEG + STL"],
  ["csv", "CSV"],
  ["angles", "CSV of angles"],
  ["json", "JSON"],
  ["png", "picture"],
];
const LARGE_MISS_MM = 3;

export class Panel {
  /**
   * @param {State} state
   * @param {(text: string) => void} onError
   */
  constructor(state, onError) {
    this.state = state;
    this.onError = onError;
    this.select = element("relabel", HTMLSelectElement);
    this.scope = element("scope", HTMLSelectElement);
    state.onChange((what) => this.draw(what));
    byId("choose-all").addEventListener("click", () => this.choose(state.paired()));
    byId("choose-none").addEventListener("click", () => this.choose([]));
    byId("remove").addEventListener("click", () => state.selected && state.remove(state.selected));
    this.select.addEventListener("change", () => this.relabel());
  }

  /** @param {string[]} levels */
  choose(levels) {
    this.state.choose(levels);
  }

  relabel() {
    if (!this.state.selected) return;
    try {
      this.state.relabel(this.state.selected, this.select.value, this.scope.value);
    } catch (error) {
      if (!(error instanceof Refused)) throw error;
      this.onError(error.message);
      this.drawSelected();
    }
  }

  /** @param {Change} what */
  draw(what) {
    if (!this.state.case) return;
    if (what === "case") {
      byId("case-name").textContent = this.state.case.name;
      this.drawWarnings();
      const { heightsShared } = this.state;
      inputOf("linked").disabled = !heightsShared;
      byId("linked-label").title = heightsShared
        ? "Moving a mark keeps both views at one height (K)"
        : "These films do not say how their heights belong together: each mark is set in its own film";
    }
    if (what === "warnings") this.drawWarnings();
    this.drawSelected();
    this.drawLevels();
    byId("scale-note").textContent = scaleNote(this.state);
    byId("scale-note").hidden = !scaleNote(this.state);
    buttonOf("undo").disabled = this.state.position <= 0;
    buttonOf("redo").disabled = this.state.position >= this.state.history.length - 1;
    byId("undo").title = `Undo ${this.state.history[this.state.position]?.what ?? ""} (Ctrl+Z)`;
  }

  drawWarnings() {
    const { warnings } = this.state.opened;
    const box = element("warnings", HTMLDetailsElement);
    box.hidden = !warnings.length;
    box.open = warnings.length <= 2;
    within(box, "summary").textContent = warnings.length === 1
      ? "1 warning"
      : `${warnings.length} warnings: read them before you measure`;
    within(box, "p").textContent = warnings.join("\n");
  }

  drawSelected() {
    const { selected } = this.state;
    byId("selected-name").textContent = selected ?? "none";
    const { select } = this;
    for (const tool of [select, buttonOf("remove"), this.scope]) tool.disabled = !selected;
    if (select.options.length !== this.state.order.length) {
      select.replaceChildren(...this.state.order.map((level) => new Option(level, level)));
    }
    select.value = selected ?? "";
  }

  drawLevels() {
    const body = bodyOf("levels");
    /** @type {HTMLElement | null | undefined} */
    const focused = document.activeElement?.closest("#levels tr");
    const focus = focused?.dataset.level;
    const focusLabel = document.activeElement?.getAttribute("aria-label");
    body.replaceChildren();
    for (const level of this.state.levels()) {
      const row = body.insertRow();
      row.dataset.level = level;
      row.classList.toggle("selected", level === this.state.selected);
      row.addEventListener("click", () => this.state.select(level));
      this.fill(row, level);
    }
    if (focus) {
      const boxes = /** @type {NodeListOf<HTMLElement>} */ (body.querySelectorAll(`tr[data-level="${focus}"] input`));
      [...boxes].find((box) => box.getAttribute("aria-label") === focusLabel)?.focus();
    }
  }

  /** @type {(row: HTMLTableRowElement, level: string) => void} */
  fill(row, level) {
    const { ap, lat } = this.state.marks;
    const both = ap[level] && lat[level];
    const chosen = box(this.state.chosen.has(level), `reconstruct ${level}`, () => this.state.toggle(level));
    chosen.disabled = !both;
    cell(row, chosen);
    cell(row, level, "level").style.borderLeftColor = this.state.colours[level];
    const status = this.state.status(level);
    const worst = [ap[level], lat[level]].filter(Boolean).sort((a, b) => a.confidence - b.confidence)[0];
    const look = grade(worst);
    const mark = both ? `mark ${look.name}` : `in ${ap[level] ? "AP" : "LAT"} only`;
    // A number that is high beside "do not use" would speak for it.
    const sure = status.confidence === undefined || status.use === "do not use"
      ? ""
      : ` ${status.confidence.toFixed(2)}`;
    const said = cell(row, status.use ? status.use + sure : mark, "status");
    said.style.color = statusColour(status) || look.colour;
    said.title = status.reasons.join("; ") ||
      (status.use ? "with its confidence, 0 to 1, as in the report" : "no shape yet");
    const miss = both ? residual(this.state.opened.geometry, ap[level].centroid, lat[level].centroid) : null;
    const text = miss === null ? "–" : estimated(this.state, miss.toFixed(1));
    cell(row, text, miss !== null && miss > LARGE_MISS_MM ? "miss bad" : "miss");
    cell(
      row,
      box(!this.state.hidden.has(level), `show ${level}`, (on) => {
        this.state.hidden[on ? "delete" : "add"](level);
        this.state.changed("look");
      }),
    );
    const plain = ["outdated", "being checked", "not ticked"].includes(status.use);
    if (status.reasons.length && !plain) this.explain(row, level, status);
  }

  /**
   * The reasons in words, below the vertebra.
   * @type {(row: HTMLTableRowElement, level: string, status: Status) => void}
   */
  explain(row, level, status) {
    const below = bodyOf("levels").insertRow();
    below.className = row.className;
    below.dataset.reasonsOf = level;
    below.addEventListener("click", () => this.state.select(level));
    const text = cell(below, status.reasons.join("; "), "reasons");
    text.colSpan = row.cells.length;
    text.style.color = statusColour(status);
  }
}
