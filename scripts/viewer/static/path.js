// Where one is on the way from films to exports, and what comes next. It only shows: no step is locked.

import { byId } from "./dom.js";

/** @import { State } from "./state.js" */
/** @import { Work } from "./work.js" */

export class Path {
  /**
   * @param {State} state
   * @param {Work} work
   */
  constructor(state, work) {
    this.state = state;
    this.work = work;
    /** What was exported last. */
    this.taken = "";
    state.onChange(() => this.draw());
    this.draw();
  }

  /** All that exports say, in one text; empty if there is nothing. */
  get current() {
    const { fresh, ends, confirmed, uncertain } = this.state;
    const keys = Object.entries(fresh).sort();
    return keys.length ? JSON.stringify([keys, ends, confirmed, uncertain]) : "";
  }

  /** All that is current has been exported. */
  exported() {
    this.taken = this.current;
    this.draw();
  }

  /** @returns {[name: string, done: boolean, next: string][]} the steps, and what is to be done in each */
  steps() {
    const { state, work } = this;
    const { disorder } = state.doubts();
    const doubtful = disorder.length > 0 || state.uncertain;
    const paired = state.paired().length;
    const { fresh } = state;
    const missing = state.sorted(state.chosen).filter((level) => !fresh[level]);
    const made = state.chosen.size > 0 && !missing.length;
    const measured = made && state.anglesNow !== undefined;
    const check = doubtful
      ? "See “Wrong level?” on the right."
      : paired
      ? "Drag what lies wrong, then confirm the levels."
      : "Double-click each vertebra, in both films.";
    const compute = work.running
      ? "The shapes are being computed."
      : state.chosen.size
      ? `Press Reconstruct: ${missing.length} of ${state.chosen.size} not current.`
      : "Tick what is wanted under “use”.";
    const take = state.confirmed ? "Read each status, then export." : "Read each status, confirm the levels, export.";
    return [
      ["Films", state.case !== null, "Open two films, or drop them on the page."],
      ["Check marks", paired > 0 && !doubtful && state.confirmed, check],
      ["Reconstruct", made, compute],
      ["Measure", measured, work.measureError || "The shapes are being measured."],
      ["Export", measured && this.taken === this.current, take],
    ];
  }

  draw() {
    const steps = this.steps();
    const reached = this.work.running ? 2 : steps.findLastIndex(([, done]) => done) + 1;
    const items = steps.map(([name, done], index) => {
      const item = document.createElement("li");
      item.textContent = done ? `✓ ${name}` : name;
      item.classList.toggle("done", done);
      if (index === reached) item.setAttribute("aria-current", "step");
      return item;
    });
    byId("steps").replaceChildren(...items);
    byId("next").textContent = byId("next").title = steps[reached]?.[2] ?? "Exported.";
  }
}
