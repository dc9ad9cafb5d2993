// End vertebrae that the user chose, in place of those that the program takes.

/** @type {(one: EndVertebrae, other: EndVertebrae) => boolean} */
const same = (one, other) => one.measure === other.measure && one.upper === other.upper && one.lower === other.lower;

/** @type {(one: readonly EndVertebrae[], other: readonly EndVertebrae[]) => boolean} */
export const sameEnds = (one, other) => one.length === other.length && one.every((ends, i) => same(ends, other[i]));

/**
 * The choices with one more, or with one that stands for another; of kyphosis and lordosis there is one.
 * @type {(ends: readonly EndVertebrae[], shown: EndVertebrae, next: EndVertebrae) => EndVertebrae[]}
 */
export function replaced(ends, shown, next) {
  const others = withdrawn(ends, shown).filter((one) => one.measure === "cobb" || one.measure !== next.measure);
  return [...others.filter((one) => !same(one, next)), next];
}

/**
 * The choices without one: there the program chooses again.
 * @type {(ends: readonly EndVertebrae[], shown: EndVertebrae) => EndVertebrae[]}
 */
export const withdrawn = (ends, shown) => ends.filter((one) => !same(one, shown));

/**
 * The choices after vertebrae have got other names, old -> new.
 * @type {(ends: readonly EndVertebrae[], names: PerLevel<string>) => EndVertebrae[]}
 */
export const followed = (ends, names) =>
  ends.map(({ measure, upper, lower }) => ({ measure, upper: names[upper] ?? upper, lower: names[lower] ?? lower }));
