// All that the page knows, in one place. Marks change only through `edit`, so that everything can be undone.

import { matchingRow } from "./geometry.js";

/** @type {ViewName[]} */
export const VIEWS = ["ap", "lat"];
/** @type {(view: ViewName) => ViewName} */
export const other = (view) => (view === "ap" ? "lat" : "ap");

export class Refused extends Error {}

export class State extends EventTarget {
  constructor() {
    super();
    /** @type {Case | null} */
    this.case = null;
    /** @type {string | null} */
    this.selected = null;
    /** @type {Set<string>} */
    this.chosen = new Set();
    /** @type {PerLevel<Result>} what the service said of the reconstruction */
    this.results = {};
    /** @type {PerLevel<Result>} the same, before the last correction */
    this.before = {};
    this.comparing = false;
    /** @type {Set<string>} */
    this.hidden = new Set();
    /** @type {PerLevel<string>} */
    this.colours = {};
    /** @type {string[]} all levels from head to foot */
    this.order = [];
    this.linked = true;
    /** @type {{ marks: Marks, what: string, uncertain: boolean }[]} */
    this.history = [];
    this.position = -1;
    /** @type {Marks | null} what the service has */
    this.saved = null;
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
    this.history = [{ marks, what: "opened", uncertain: description.levels_uncertain }];
    this.position = 0;
    this.saved = this.marks;
    this.results = {};
    this.before = {};
    this.hidden = new Set();
    this.selected = null;
    this.chosen = new Set(this.paired());
    this.changed("case");
  }

  /** @returns {Marks} */
  get marks() {
    return this.history[this.position]?.marks ?? { ap: {}, lat: {} };
  }

  /** Whether all levels may be one too high or too low. */
  get uncertain() {
    return this.history[this.position]?.uncertain ?? false;
  }

  /** @param {Iterable<string>} levels */
  sorted(levels) {
    return [...levels].sort((a, b) => this.order.indexOf(a) - this.order.indexOf(b));
  }

  levels() {
    return this.sorted(new Set([...Object.keys(this.marks.ap), ...Object.keys(this.marks.lat)]));
  }

  paired() {
    return this.sorted(Object.keys(this.marks.ap).filter((level) => level in this.marks.lat));
  }

  /**
   * Steps of the same name that follow each other with `merge` count as one (a drag).
   * @param {string} what
   * @param {(marks: Marks) => void} change
   */
  edit(what, change, merge = false, uncertain = this.uncertain) {
    const marks = structuredClone(this.marks);
    change(marks);
    const again = merge && this.position > 0 && this.history[this.position].what === what;
    this.history = this.history.slice(0, this.position + (again ? 0 : 1));
    this.history.push({ marks, what, uncertain });
    this.position = this.history.length - 1;
    this.afterMarks();
  }

  /** The user knows that the levels are right. */
  settle() {
    this.edit("settle the levels", () => {}, false, false);
  }

  undo() {
    if (this.position > 0) {
      this.position -= 1;
      this.afterMarks();
    }
  }

  redo() {
    if (this.position < this.history.length - 1) {
      this.position += 1;
      this.afterMarks();
    }
  }

  afterMarks() {
    const levels = new Set(this.levels());
    if (this.selected && !levels.has(this.selected)) this.selected = null;
    this.chosen = new Set([...this.chosen].filter((level) => levels.has(level)));
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
      moveTo(marks[view][level], place);
      const partner = marks[other(view)][level];
      if (this.linked && partner) {
        const height = this.matching(view, place, partner.centroid[1]);
        moveTo(partner, [height, partner.centroid[1]]);
      }
    }, merge);
  }

  /** @type {(view: ViewName, level: string, index: number, row: number, column: number, merge?: boolean) => void} */
  moveCorner(view, level, index, row, column, merge = false) {
    this.edit(`corner ${level}`, (marks) => {
      const mark = marks[view][level];
      if (mark.corners) mark.corners[index] = [row, column];
      mark.set_by = "edited";
    }, merge);
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
    const { level, names } = this.proposed(view, row);
    this.edit(`add ${level}`, (marks) => {
      Object.assign(marks, renamed(marks, names));
      marks[view][level] = newMark([row, column]);
      const there = other(view);
      if (!marks[there][level] && this.linked) {
        const guess = columnAt(marks[there], row, this.opened, view) ?? this.opened.views[there].shape[1] / 2;
        marks[there][level] = newMark([this.matching(view, [row, column], guess), guess]);
      }
    });
    if (Object.keys(names).length) this.follow(names);
    this.chosen.add(level);
    this.select(level);
    return level;
  }

  /**
   * The level of a new mark, and the new names of those below where it is inserted between two that follow each other.
   * @type {(view: ViewName, row: number) => { level: string, names: PerLevel<string> }}
   */
  proposed(view, row) {
    const marks = this.marks[view];
    const waiting = this.sorted(Object.keys(this.marks[other(view)]).filter((level) => !(level in marks)));
    const present = this.sorted(Object.keys(marks));
    const above = present.filter((level) => marks[level].centroid[0] <= row).pop();
    const below = present.find((level) => marks[level].centroid[0] > row);
    const usual = this.order.filter((level) => level !== "T13" && level !== "L6");
    const first = above ? this.order.indexOf(above) + 1 : 0;
    const last = below ? this.order.indexOf(below) : this.order.length;
    const fits = this.order.slice(first, last);
    const choices = fits.filter((level) => usual.includes(level) && !(level in marks));
    const best = waiting.find((level) => fits.includes(level)) ?? (below && !above ? choices.pop() : choices[0]);
    const level = best ?? (above && below ? null : fits.find((name) => !(name in marks))) ??
      (present.length ? null : "L3");
    if (level) return { level, names: {} };
    if (!above || !below) throw new Refused(`there is no level ${above ? `below ${above}` : `above ${below}`}`);
    return { level: below, names: this.shifted(below, 1, "below") };
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
   * Old names and new ones where a level moves by some places and others with it.
   * @type {(level: string, by: number, scope: string, kept?: string) => PerLevel<string>}
   */
  shifted(level, by, scope, kept = level) {
    const usual = this.order.filter((n) => (n !== "T13" && n !== "L6") || n === level || n === kept);
    // Marks reach an L6 only where there is one more lumbar vertebra than usual.
    const reached = by > 0 && !usual.includes("L6") ? [...usual, "L6"] : usual;
    const here = this.order.indexOf(level);
    /** @type {PerLevel<string>} */
    const names = {};
    for (const old of this.levels()) {
      const away = this.order.indexOf(old) - here;
      if (away && (scope === "one" || (scope === "below" && away < 0) || (scope === "above" && away > 0))) continue;
      const place = reached.indexOf(old);
      const moved = place < 0 ? undefined : reached[place + by];
      if (!moved) throw new Refused(`${old} cannot move by ${by}: there is no such level`);
      names[old] = moved;
    }
    return names;
  }

  /**
   * Another name for a mark; those of its scope (all, below, above, one) move by as many levels.
   * @type {(level: string, name: string, scope: string) => void}
   */
  relabel(level, name, scope) {
    if (level === name) return;
    const usual = this.order.filter((n) => (n !== "T13" && n !== "L6") || n === level || n === name);
    const names = this.shifted(level, usual.indexOf(name) - usual.indexOf(level), scope, name);
    const taken = this.levels().find((old) => !(old in names) && Object.values(names).includes(old));
    if (taken) throw new Refused(`${taken} is taken; rename more of its neighbours, or move that one first`);
    const proposal = renamed(this.marks, names);
    for (const view of VIEWS) this.checkOrder(proposal[view], view);
    // Who counts all from one vertebra knows that one.
    const uncertain = this.uncertain && scope !== "all";
    this.edit(`relabel ${level}`, (marks) => Object.assign(marks, proposal), false, uncertain);
    this.follow(names);
    this.select(name);
  }

  /**
   * What is chosen bears new names; what was reconstructed bore old ones and goes.
   * @param {PerLevel<string>} names
   */
  follow(names) {
    this.chosen = new Set([...this.chosen].map((old) => names[old] ?? old));
    this.results = {};
    this.before = {};
    this.changed("results");
  }

  /** @type {(marks: PerLevel<Mark>, view: ViewName) => void} */
  checkOrder(marks, view) {
    const levels = this.sorted(Object.keys(marks));
    for (let i = 1; i < levels.length; i += 1) {
      if (marks[levels[i]].centroid[0] <= marks[levels[i - 1]].centroid[0]) {
        throw new Refused(`then ${levels[i - 1]} would lie below ${levels[i]} in ${view.toUpperCase()}`);
      }
    }
  }

  /** As `annotations.json` has them. */
  views() {
    /** @type {(marks: PerLevel<Mark>) => (Mark & { level: string })[]} */
    const list = (marks) => this.sorted(Object.keys(marks)).map((level) => ({ ...marks[level], level }));
    return Object.fromEntries(
      VIEWS.map((view) => [view, { shape: this.opened.views[view].shape, vertebrae: list(this.marks[view]) }]),
    );
  }
}

/** @type {(value: number, most: number) => number} */
const clamp = (value, most) => Math.min(Math.max(value, 0), most);
/**
 * Marks with new names where there are some; what has another name than before was set by the user.
 * @type {(marks: Marks, names: PerLevel<string>) => Marks}
 */
function renamed(marks, names) {
  /** @type {(level: string, mark: Mark) => [string, Mark]} */
  const entry = (level, mark) =>
    (names[level] ?? level) === level ? [level, mark] : [names[level], { ...mark, set_by: "edited" }];
  const [ap, lat] = VIEWS.map((view) =>
    Object.fromEntries(Object.entries(marks[view]).map(([level, mark]) => entry(level, mark)))
  );
  return { ap, lat };
}

/** @type {(centroid: Pixel) => Mark} */
const newMark = (centroid) => ({ centroid, corners: null, confidence: 1, set_by: "edited" });

/** @type {(views: Case["marks"]) => Marks} */
function toMarks(views) {
  const [ap, lat] = VIEWS.map((view) => Object.fromEntries(views[view].vertebrae.map((mark) => [mark.level, mark])));
  return { ap, lat };
}

/** @type {(mark: Mark, place: Pixel) => void} */
function moveTo(mark, [row, column]) {
  const step = [row - mark.centroid[0], column - mark.centroid[1]];
  mark.centroid = [row, column];
  mark.corners = mark.corners?.map((corner) => [corner[0] + step[0], corner[1] + step[1]]) ?? null;
  mark.set_by = "edited";
}

/**
 * Where the spine runs at a height of the other film, from the marks that are there.
 * @type {(marks: PerLevel<Mark>, row: number, description: Case, view: ViewName) => number | null}
 */
function columnAt(marks, row, description, view) {
  const list = Object.values(marks).map((mark) => mark.centroid).sort((a, b) => a[0] - b[0]);
  if (!list.length) return null;
  const height = (row * description.views[view].pixel_mm[0]) / description.views[other(view)].pixel_mm[0];
  const below = list.findIndex((point) => point[0] > height);
  if (below < 0) return list[list.length - 1][1];
  if (below === 0) return list[0][1];
  const [a, b] = [list[below - 1], list[below]];
  return a[1] + ((b[1] - a[1]) * (height - a[0])) / (b[0] - a[0]);
}
