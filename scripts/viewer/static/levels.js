// Names of vertebrae: which one is proposed, which follow a new name, and what speaks against them.

/** @type {ViewName[]} */
export const VIEWS = ["ap", "lat"];
/** @type {(view: ViewName) => ViewName} */
export const other = (view) => (view === "ap" ? "lat" : "ap");

export class Refused extends Error {}

/** @type {(order: string[], levels: Iterable<string>) => string[]} */
export const sorted = (order, levels) => [...levels].sort((a, b) => order.indexOf(a) - order.indexOf(b));

/** @type {(order: string[], ...kept: string[]) => string[]} */
export const usual = (order, ...kept) => order.filter((n) => (n !== "T13" && n !== "L6") || kept.includes(n));

/** @type {(order: string[], marks: Marks) => string[]} */
export const levelsOf = (order, marks) => sorted(order, new Set([...Object.keys(marks.ap), ...Object.keys(marks.lat)]));

/**
 * The level of a new mark, and the new names of those below where it is inserted between two that follow each other.
 * @type {(order: string[], all: Marks, view: ViewName, row: number) => { level: string, names: PerLevel<string> }}
 */
export function proposed(order, all, view, row) {
  const marks = all[view];
  const waiting = sorted(order, Object.keys(all[other(view)]).filter((level) => !(level in marks)));
  const present = sorted(order, Object.keys(marks));
  const above = present.filter((level) => marks[level].centroid[0] <= row).pop();
  const below = present.find((level) => marks[level].centroid[0] > row);
  const first = above ? order.indexOf(above) + 1 : 0;
  const last = below ? order.indexOf(below) : order.length;
  const fits = order.slice(first, last);
  const choices = fits.filter((level) => usual(order).includes(level) && !(level in marks));
  const best = waiting.find((level) => fits.includes(level)) ?? (below && !above ? choices.pop() : choices[0]);
  const level = best ?? (above && below ? null : fits.find((name) => !(name in marks))) ??
    (present.length ? null : "L3");
  if (level) return { level, names: {} };
  if (!above || !below) throw new Refused(`there is no level ${above ? `below ${above}` : `above ${below}`}`);
  return { level: below, names: shifted(order, all, below, 1, "below") };
}

/**
 * Old names and new ones where a level moves by some places and others with it.
 * @type {(order: string[], marks: Marks, level: string, by: number, scope: string, kept?: string) => PerLevel<string>}
 */
export function shifted(order, marks, level, by, scope, kept = level) {
  const known = usual(order, level, kept);
  // Marks reach an L6 only where there is one more lumbar vertebra than usual.
  const reached = by > 0 && !known.includes("L6") ? [...known, "L6"] : known;
  const here = order.indexOf(level);
  /** @type {PerLevel<string>} */
  const names = {};
  for (const old of levelsOf(order, marks)) {
    const away = order.indexOf(old) - here;
    if (away && (scope === "one" || (scope === "below" && away < 0) || (scope === "above" && away > 0))) continue;
    const place = reached.indexOf(old);
    const moved = place < 0 ? undefined : reached[place + by];
    if (!moved) throw new Refused(`${old} cannot move by ${by}: there is no such level`);
    names[old] = moved;
  }
  return names;
}

/**
 * How sure a mark is once its name is the user's: the network's doubt about the name is taken out, that about the place
 * stays. An interpolated one is still seen by nobody.
 * @type {(mark: Mark, level: string) => number}
 */
function placeConfidence({ confidence, level_posterior }, level) {
  const share = level_posterior?.[level];
  return share ? Math.min(1, confidence / share) : confidence;
}

/**
 * Marks whose names the user has found right.
 * @type {(marks: Marks) => Marks}
 */
export function confirmed(marks) {
  if (!VIEWS.some((view) => Object.values(marks[view]).some((mark) => mark.level_posterior))) return marks;
  /** @type {(level: string, mark: Mark) => Mark} */
  const sure = (level, mark) =>
    mark.level_posterior
      ? { ...mark, confidence: placeConfidence(mark, level), level_posterior: { [level]: 1 } }
      : mark;
  const [ap, lat] = VIEWS.map((view) =>
    Object.fromEntries(Object.entries(marks[view]).map(([level, mark]) => [level, sure(level, mark)]))
  );
  return { ap, lat };
}

/**
 * Marks with new names where there are some. Who set their place stays as it was; the names are the user's.
 * @type {(marks: Marks, names: PerLevel<string>) => Marks}
 */
export function renamed(marks, names) {
  /** @type {(level: string, mark: Mark) => [string, Mark]} */
  const entry = (level, mark) => {
    if ((names[level] ?? level) === level) return [level, mark];
    const { level_posterior: _, ...rest } = mark;
    return [names[level], { ...rest, confidence: placeConfidence(mark, level) }];
  };
  const [ap, lat] = VIEWS.map((view) =>
    Object.fromEntries(Object.entries(marks[view]).map(([level, mark]) => entry(level, mark)))
  );
  return { ap, lat };
}

/**
 * Neighbours that lie in the wrong order, and levels left out between two.
 * @type {(order: string[], marks: Marks) => { disorder: string[], gaps: string[] }}
 */
export function doubts(order, marks) {
  const disorder = [];
  for (const view of VIEWS) {
    const levels = sorted(order, Object.keys(marks[view]));
    for (let i = 1; i < levels.length; i += 1) {
      const [upper, lower] = [levels[i - 1], levels[i]];
      if (marks[view][lower].centroid[0] <= marks[view][upper].centroid[0]) {
        disorder.push(`${view.toUpperCase()}: ${lower} is marked above ${upper}`);
      }
    }
  }
  const present = levelsOf(order, marks);
  const between = usual(order).slice(
    usual(order).indexOf(present[0]),
    usual(order).indexOf(present[present.length - 1]) + 1,
  );
  return { disorder, gaps: present.length ? between.filter((level) => !present.includes(level)) : [] };
}
