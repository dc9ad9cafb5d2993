// The list of vertebrae, the measurements, and what can be taken away.

import { grade } from "./radiograph.js";
import { residual } from "./geometry.js";
import { buttonOf, byId, element, within } from "./dom.js";
import { Refused } from "./state.js";

/** @import { State } from "./state.js" */

export const EXPORTS = [
  ["zip", "everything (zip)"],
  ["stl", "STL"],
  ["obj", "OBJ"],
  ["ply", "PLY"],
  ["glb", "glTF"],
  ["nii.gz", "NIfTI"],
  ["dicom", "DICOM SEG + STL"],
  ["csv", "CSV"],
  ["json", "JSON"],
  ["png", "picture"],
  ["html", "report"],
];
const LARGE_MISS_MM = 3;

/** @type {(row: HTMLTableRowElement, content: string | Node, className?: string) => HTMLTableCellElement} */
function cell(row, content, className = "") {
  const made = row.insertCell();
  made.className = className;
  made.append(content);
  return made;
}

/** @type {(checked: boolean, label: string, action: (checked: boolean) => void) => HTMLInputElement} */
function box(checked, label, action) {
  const made = Object.assign(document.createElement("input"), { type: "checkbox", checked });
  made.setAttribute("aria-label", label);
  made.addEventListener("change", () => action(made.checked));
  made.addEventListener("click", (event) => event.stopPropagation());
  return made;
}

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
    this.state.chosen = new Set(levels);
    this.state.changed("look");
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
    }
    if (what === "warnings") this.drawWarnings();
    byId("uncertain").hidden = !this.state.uncertain;
    this.drawSelected();
    this.drawLevels();
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
    const chosen = box(this.state.chosen.has(level), `reconstruct ${level}`, (on) => {
      this.state.chosen[on ? "add" : "delete"](level);
      this.state.changed("look");
    });
    chosen.disabled = !both;
    cell(row, chosen);
    cell(row, level, "level").style.borderLeftColor = this.state.colours[level];
    const worst = [ap[level], lat[level]].filter(Boolean).sort((a, b) => a.confidence - b.confidence)[0];
    const look = grade(worst);
    const only = both ? "" : ap[level] ? ", AP" : ", LAT";
    cell(row, look.name + only).style.color = look.colour;
    const miss = both ? residual(this.state.opened.geometry, ap[level].centroid, lat[level].centroid) : null;
    cell(row, miss === null ? "–" : miss.toFixed(1), miss !== null && miss > LARGE_MISS_MM ? "miss bad" : "miss");
    const result = this.state.results[level];
    const flags = result?.flags ?? [];
    const said = result?.error ? "failed" : result ? result.confidence.toFixed(2) + (flags.length ? " !" : "") : "";
    const done = cell(row, said, result?.error || flags.length ? "bad" : "");
    done.title = result?.error ?? flags.join("\n");
    cell(
      row,
      box(!this.state.hidden.has(level), `show ${level}`, (on) => {
        this.state.hidden[on ? "delete" : "add"](level);
        this.state.changed("look");
      }),
    );
  }

  /** @param {Measurements} measured */
  drawMeasurements({ curves = [], vertebrae = [], note }) {
    fillTable("measurements", curves.map(({ name, text }) => [name, text]));
    /** @param {MeasuredVertebra} v */
    const missing = (v) => (v.missing && !v.rotation && !v.wedge && !v.heights_mm ? v.missing : v.rotation || "–");
    fillTable(
      "vertebra-measurements",
      vertebrae.map((v) => [v.level, missing(v), v.wedge || "–", v.heights_mm || "–"]),
    );
    [...bodyOf("vertebra-measurements").rows].forEach((
      row,
      i,
    ) => (row.title = vertebrae[i].missing));
    byId("vertebra-measurements").hidden = vertebrae.length === 0;
    byId("measure-note").textContent = note;
  }
}

/** @param {string} id */
function bodyOf(id) {
  return element(id, HTMLTableElement).tBodies[0];
}

/** @type {(id: string, rows: string[][]) => void} */
function fillTable(id, rows) {
  const body = bodyOf(id);
  body.replaceChildren();
  for (const texts of rows) {
    const row = body.insertRow();
    for (const text of texts) cell(row, text);
  }
}
