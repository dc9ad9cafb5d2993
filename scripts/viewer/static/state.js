// All that the page knows, in one place. Marks and ticks change only by new steps, so that everything can be undone.

import { matchingRow } from "./geometry.js";
import { followed, sameEnds } from "./ends.js";
import {
  confirmed,
  doubts,
  levelsOf,
  other,
  proposed,
  Refused,
  renamed,
  shifted,
  sorted,
  usual,
  VIEWS,
} from "./levels.js";
import { Made } from "./made.js";
import { clamp, columnAt, frozen, moveTo, newMark, setByHand, toMarks } from "./marks.js";

/** @typedef {Partial<Pick<Step, "chosen" | "uncertain" | "confirmed" | "ends">> & { merge?: boolean }} StepOptions */

/** Choices of one name that follow each other so fast are one step. */
const ONE_CHOICE_MS = 1000;

/** What the step is called in which the user says that the levels are right. */
export const CONFIRM = "confirm the levels";

/** @type {Step} */
const NOTHING = Object.freeze({
  marks: frozen({ ap: {}, lat: {} }),
  what: "",
  chosen: new Set(),
  uncertain: false,
  confirmed: false,
  ends: [],
});

export class State extends EventTarget {
  constructor() {
    super();
    /** @type {Case | null} */
    this.case = null;
    /** @type {string | null} */
    this.selected = null;
    this.made = new Made();
    this.comparing = false;
    /** End plates and angles are drawn. */
    this.platesShown = true;
    /** A mark is being dragged. */
    this.dragging = false;
    /** @type {Set<string>} */
    this.hidden = new Set();
    /** @type {PerLevel<string>} */
    this.colours = {};
    /** @type {string[]} all levels from head to foot */
    this.order = [];
    this.linked = true;
    /** @type {readonly Step[]} */
    this.history = [];
    this.position = -1;
    /** @type {Step | null} what the service has */
    this.saved = null;
    this.endsChosen = 0;
  }

  /** The case, where there must be one. */
  get opened() {
    if (!this.case) throw new Error("no case is open");
    return this.case;
  }

  /** @param {(what: Change) => void} action */
  onChange(action) {
    this.addEventListener("change", (event) => action(/** @type {CustomEvent<Change>} */ (event).detail));
  }

  /** @param {Change} what */
  changed(what) {
    this.dispatchEvent(new CustomEvent("change", { detail: what }));
  }

  /** @param {Case} description */
  load(description) {
    this.case = description;
    this.order = description.levels.map((level) => level.name);
    this.colours = Object.fromEntries(description.levels.map((level) => [level.name, level.colour]));
    const marks = toMarks(description.marks);
    const chosen = new Set(Object.keys(marks.ap).filter((level) => level in marks.lat));
    const { levels_uncertain: uncertain, levels_confirmed: confirmed, end_vertebrae: ends } = description;
    this.history = [step({ marks, what: "opened", chosen, uncertain, confirmed, ends })];
    this.position = 0;
    this.saved = this.now;
    this.made = new Made();
    this.made.tell(this.marks, description);
    this.hidden = new Set();
    this.selected = null;
    this.changed("case");
  }

  /**
   * Steps of an earlier time, for the films that are open.
   * @type {(history: Step[], position: number) => void}
   */
  resume(history, position) {
    // Steps of an earlier version know no end vertebrae.
    this.history = history.map((earlier) => step({ ...earlier, ends: earlier.ends ?? [] }));
    this.position = position;
    this.made.show(this.marks, true);
    this.afterMarks();
  }

  get now() {
    return this.history[this.position] ?? NOTHING;
  }

  get marks() {
    return this.now.marks;
  }

  /** Levels that are ticked for reconstruction and export. */
  get chosen() {
    return this.now.chosen;
  }

  /** Whether all levels may be one too high or too low. */
  get uncertain() {
    return this.now.uncertain;
  }

  /** Whether the user said that the levels are right. */
  get confirmed() {
    return this.now.confirmed;
  }

  /** End vertebrae that the user chose. */
  get ends() {
    return this.now.ends;
  }

  /** Fingerprints of what is ticked and current: that is measured and exported. */
  get fresh() {
    return this.made.fresh(this.marks, this.allMove, this.chosen);
  }

  /** What was measured of that. */
  get measuredNow() {
    return this.made.measuredNow(this.marks, this.allMove, this.chosen);
  }

  /** The same, if its angles are those of the end vertebrae that are chosen now. */
  get anglesNow() {
    const measured = this.measuredNow;
    return measured && sameEnds(measured.end_vertebrae ?? [], this.ends) ? measured : undefined;
  }

  /** What is drawn of each level, outdated or not. */
  get results() {
    return this.made.shown;
  }

  /** Whether every mark moves the geometry of all. */
  get allMove() {
    return this.case?.follows_marks ?? false;
  }

  /** Whether one height is known to be the same in both films, so that a mark can follow the one in the other view. */
  get heightsShared() {
    return this.case !== null && !this.allMove;
  }

  /**
   * Whether a vertebra may be used.
   * @param {string} level
   */
  status(level) {
    return this.made.status(level, this.marks, this.allMove, this.chosen);
  }

  /** Levels whose shape is not of the present marks, of those that are ticked. */
  outdated() {
    return this.sorted(this.chosen).filter((level) => this.made.outdated(level, this.marks, this.allMove));
  }

  /** @param {Iterable<string>} levels */
  sorted(levels) {
    return sorted(this.order, levels);
  }

  levels() {
    return levelsOf(this.order, this.marks);
  }

  paired() {
    return this.sorted(Object.keys(this.marks.ap).filter((level) => level in this.marks.lat));
  }

  doubts() {
    return doubts(this.order, this.marks);
  }

  /**
   * A new step; of those of one name that follow each other with `merge` the last one counts (a drag).
   * @type {(what: string, marks: Marks, options?: StepOptions) => void}
   */
  push(what, marks, { merge = false, ...said } = {}) {
    const again = merge && this.position > 0 && this.now.what === what;
    const { chosen, uncertain, confirmed, ends } = { ...this.now, ...said };
    const paired = new Set([...chosen].filter((level) => level in marks.ap && level in marks.lat));
    const next = step({ marks, what, chosen: paired, uncertain, confirmed, ends });
    this.history = [...this.history.slice(0, this.position + (again ? 0 : 1)), next];
    this.position = this.history.length - 1;
    this.made.show(marks);
    this.afterMarks();
  }

  /**
   * A step whose marks are a changed copy of the present ones.
   * @type {(what: string, change: (marks: Marks) => void, options?: StepOptions) => void}
   */
  edit(what, change, options) {
    const marks = structuredClone(this.marks);
    change(marks);
    this.push(what, marks, options);
  }

  /**
   * Which levels are ticked.
   * @param {Iterable<string>} levels
   */
  choose(levels) {
    this.push("tick", this.marks, { chosen: new Set(levels) });
  }

  /** @param {string} level */
  toggle(level) {
    const chosen = new Set(this.chosen);
    if (!chosen.delete(level)) chosen.add(level);
    this.choose(chosen);
  }

  /**
   * End vertebrae that the user chooses, all of them; going fast through a list by keyboard is one step.
   * @type {(what: string, ends: EndVertebrae[]) => void}
   */
  chooseEnds(what, ends) {
    const merge = Date.now() - this.endsChosen < ONE_CHOICE_MS;
    this.endsChosen = Date.now();
    this.push(what, this.marks, { ends, merge });
  }

  /** The user knows that the levels are right. */
  confirm() {
    this.push(CONFIRM, confirmed(this.marks), { uncertain: false, confirmed: true });
  }

  undo() {
    this.go(this.position - 1);
  }

  redo() {
    this.go(this.position + 1);
  }

  /** @param {number} position */
  go(position) {
    if (!this.history[position]) return;
    this.position = position;
    this.made.show(this.marks, true);
    this.afterMarks();
  }

  afterMarks() {
    if (this.selected && !this.levels().includes(this.selected)) this.selected = null;
    this.changed("marks");
  }

  /** @param {string | null} level */
  select(level) {
    this.selected = level;
    this.changed("selection");
  }

  /** @type {(view: ViewName, level: string, row: number, column: number, merge?: boolean) => void} */
  move(view, level, row, column, merge = false) {
    const [rows, columns] = this.opened.views[view].shape;
    /** @type {Pixel} */
    const place = [clamp(row, rows - 1), clamp(column, columns - 1)];
    this.edit(`move ${level}`, (marks) => {
      setByHand(marks[view][level], place);
      const partner = marks[other(view)][level];
      if (this.linked && this.heightsShared && partner) {
        const height = this.matching(view, place, partner.centroid[1]);
        moveTo(partner, [height, partner.centroid[1]]);
      }
    }, { merge });
  }

  /** @type {(view: ViewName, pixel: Pixel, column: number) => number} */
  matching(view, pixel, column) {
    const { geometry, views } = this.opened;
    const height = matchingRow(geometry[view], pixel, geometry[other(view)], column);
    return clamp(height, views[other(view)].shape[0] - 1);
  }

  /**
   * A mark where there is none: the free level that fits between its neighbours; without one those below move down.
   * @type {(view: ViewName, row: number, column: number) => string}
   */
  add(view, row, column) {
    const { level, names } = proposed(this.order, this.marks, view, row);
    const marks = renamed(structuredClone(this.marks), names);
    marks[view][level] = newMark([row, column]);
    const there = other(view);
    if (!marks[there][level] && this.linked && this.heightsShared) {
      const guess = columnAt(marks[there], row, this.opened, view) ?? this.opened.views[there].shape[1] / 2;
      marks[there][level] = newMark([this.matching(view, [row, column], guess), guess]);
    }
    this.rename(`add ${level}`, marks, names, { chosen: new Set([...this.follow(names), level]), confirmed: false });
    this.select(level);
    return level;
  }

  /** @param {string} level */
  remove(level) {
    const following = this.levels();
    const next = following[following.indexOf(level) + 1] ?? following[following.indexOf(level) - 1] ?? null;
    this.edit(`remove ${level}`, (marks) => {
      for (const view of VIEWS) delete marks[view][level];
    });
    this.select(this.levels().includes(level) ? level : next);
  }

  /**
   * Another name for a mark; those of its scope (all, below, above, one) move by as many levels.
   * @type {(level: string, name: string, scope: string) => void}
   */
  relabel(level, name, scope) {
    if (level === name) return;
    const known = usual(this.order, level, name);
    const names = shifted(this.order, this.marks, level, known.indexOf(name) - known.indexOf(level), scope, name);
    const taken = this.levels().find((old) => !(old in names) && Object.values(names).includes(old));
    if (taken) throw new Refused(`${taken} is taken; rename more of its neighbours, or move that one first`);
    const proposal = renamed(this.marks, names);
    const [wrong] = doubts(this.order, proposal).disorder.filter((line) => !this.doubts().disorder.includes(line));
    if (wrong) throw new Refused(`that cannot be: then ${wrong}`);
    // Who counts all from one vertebra knows that one.
    const uncertain = this.uncertain && scope !== "all";
    this.rename(`rename ${level}`, proposal, names, { chosen: this.follow(names), uncertain, confirmed: false });
    this.select(name);
  }

  /** @param {PerLevel<string>} names old -> new */
  follow(names) {
    return new Set([...this.chosen].map((old) => names[old] ?? old));
  }

  /**
   * A step after which vertebrae bear other names; what was reconstructed bore the old ones and is no longer shown.
   * @type {(what: string, marks: Marks, names: PerLevel<string>, options: StepOptions) => void}
   */
  rename(what, marks, names, options) {
    if (Object.keys(names).length) {
      this.made.forgetShown();
      this.hidden = new Set([...this.hidden].map((old) => names[old] ?? old));
    }
    this.push(what, marks, { ...options, ends: followed(this.ends, names) });
  }

  /** As `annotations.json` has them. */
  views() {
    /** @type {(marks: PerLevel<Mark>) => (Mark & { level: string })[]} */
    const list = (marks) => this.sorted(Object.keys(marks)).map((level) => ({ ...marks[level], level }));
    return Object.fromEntries(
      VIEWS.map((view) => [view, { shape: this.opened.views[view].shape, vertebrae: list(this.marks[view]) }]),
    );
  }

  /** ``annotations.json`` as this window knows it; the service's own copy has what the network said, too. */
  document() {
    const { opened, now } = this;
    const views = Object.entries(this.views()).map(([view, marks]) => {
      const { film } = opened.marks[/** @type {ViewName} */ (view)];
      return [view, film ? { ...marks, film } : marks];
    });
    return {
      schema_version: "1.0",
      case: opened.name,
      views: Object.fromEntries(views),
      levels_uncertain: now.uncertain,
      levels_confirmed: now.confirmed,
      end_vertebrae: now.ends,
    };
  }
}

/** @type {(content: Step) => Step} */
const step = (content) => Object.freeze({ ...content, marks: frozen(content.marks) });
