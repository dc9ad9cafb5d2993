// What was reconstructed, and from which marks: nothing is shown as current that is not made from the marks as they are.

import { VIEWS } from "./levels.js";

/** @typedef {{ keys: PerLevel<string>, spine: string | null }} Told what the service said of marks */

export class Made {
  constructor() {
    /** @type {Map<string, Result>} all that came, by fingerprint */
    this.known = new Map();
    /** @type {Map<string, Measurements>} by the fingerprints of all that was measured together */
    this.measured = new Map();
    /** @type {WeakMap<Marks, Told>} */
    this.told = new WeakMap();
    /** @type {Told} */
    this.last = { keys: {}, spine: null };
    /** @type {PerLevel<Result>} what is drawn of each level, outdated or not */
    this.shown = {};
    /** @type {PerLevel<Result>} the same, before the last correction; of what is shown now */
    this.before = {};
    /** @type {PerLevel<{ error: string, marks: string }>} */
    this.failed = {};
  }

  /** @type {(marks: Marks, told: Told) => void} */
  tell(marks, told) {
    this.last = { keys: { ...told.keys }, spine: told.spine };
    this.told.set(marks, this.last);
    this.show(marks);
  }

  /**
   * Shapes that belong to these marks, as far as they are known.
   * @type {(marks: Marks, strict?: boolean) => void}
   */
  show(marks, strict = false) {
    const keys = this.told.get(marks)?.keys ?? {};
    for (const level of Object.keys(marks.ap).filter((name) => name in marks.lat)) {
      const known = this.known.get(keys[level]);
      if (!known || known === this.shown[level]) continue;
      // A step back or forward is no correction: there is nothing to compare with.
      if (known.key !== this.shown[level]?.key) delete this.before[level];
      this.shown[level] = known;
    }
    for (const level of Object.keys(this.shown)) {
      const gone = !own(marks, level) || (strict && !sameMarks(this.shown[level], marks));
      if (gone) { for (const list of [this.shown, this.before, this.failed]) delete list[level]; }
    }
  }

  /**
   * The service no longer keeps this shape: it has to be computed again.
   * @type {(level: string, key: string) => void}
   */
  lose(level, key) {
    this.known.delete(key);
    if (this.shown[level]?.key === key) delete this.shown[level];
  }

  /** Names have changed: what is drawn bears old ones. */
  forgetShown() {
    this.shown = {};
    this.before = {};
    this.failed = {};
  }

  /**
   * A line of the service. What was made from other marks than the present ones is kept, but not shown.
   * @type {(result: Result, marks: Marks) => void}
   */
  accept(result, marks) {
    const { level } = result;
    if (result.error) {
      const now = own(marks, level);
      if (now) this.failed[level] = { error: result.error, marks: now };
      return;
    }
    this.known.set(result.key, result);
    const told = this.told.get(marks) ?? this.last;
    if (result.spine === told.spine) told.keys[level] = result.key;
    if (!sameMarks(result, marks)) return;
    delete this.failed[level];
    const earlier = this.shown[level];
    if (earlier && earlier.key !== result.key) this.before[level] = earlier;
    this.shown[level] = result;
  }

  /**
   * Whether what is drawn of a level is not of the present marks.
   * @type {(level: string, marks: Marks, allMove: boolean) => boolean}
   */
  outdated(level, marks, allMove) {
    const result = this.shown[level];
    if (!result) return false;
    const told = this.told.get(marks);
    if (!sameMarks(result, marks) || (!told && allMove)) return true;
    return (told ?? this.last).keys[level] !== result.key;
  }

  /**
   * Fingerprints of what is current, of some levels.
   * @type {(marks: Marks, allMove: boolean, chosen: ReadonlySet<string>) => PerLevel<string>}
   */
  fresh(marks, allMove, chosen) {
    const levels = Object.keys(this.shown).filter((level) =>
      chosen.has(level) && !this.outdated(level, marks, allMove)
    );
    return Object.fromEntries(levels.map((level) => [level, this.shown[level].key]));
  }

  /** @type {(level: string, marks: Marks, allMove: boolean, chosen: ReadonlySet<string>) => Status} */
  status(level, marks, allMove, chosen) {
    const failure = this.failed[level];
    if (failure && failure.marks === own(marks, level)) return { use: "failed", reasons: [failure.error] };
    if (!this.shown[level]) return { use: "", reasons: [] };
    if (this.outdated(level, marks, allMove)) {
      return { use: "outdated", reasons: ["marks have changed since it was computed"] };
    }
    if (!chosen.has(level)) return { use: "not ticked", reasons: ["it is not ticked: neither measured nor exported"] };
    const row = this.measuredNow(marks, allMove, chosen)?.vertebrae?.find((vertebra) => vertebra.level === level);
    return row ?? { use: "being checked", reasons: ["it is being measured and held against the films"] };
  }

  /** @type {(marks: Marks, allMove: boolean, chosen: ReadonlySet<string>) => Measurements | undefined} */
  measuredNow(marks, allMove, chosen) {
    return this.measured.get(signature(this.fresh(marks, allMove, chosen)));
  }

  /** @param {Measurements} measured */
  keepMeasured(measured) {
    this.measured.set(signature(measured.keys ?? {}), measured);
  }
}

/** @type {(keys: PerLevel<string>) => string} */
const signature = (keys) => JSON.stringify(Object.entries(keys).sort());

/**
 * A level's marks in both views; nothing if it is not marked in both.
 * @type {(marks: Marks, level: string) => string}
 */
function own(marks, level) {
  const pixels = VIEWS.map((view) => marks[view][level]?.centroid);
  return pixels.every(Boolean) ? JSON.stringify(pixels) : "";
}

/** @type {(result: Result, marks: Marks) => boolean} */
const sameMarks = (result, marks) =>
  own(marks, result.level) === JSON.stringify(VIEWS.map((view) => result.marks[view]));
