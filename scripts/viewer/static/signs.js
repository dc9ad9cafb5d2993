// The signs of marks and of vertebrae: shape and colour, and the words for them.

/** @type {Record<Status["use"], string>} */
const COLOURS = {
  "": "",
  good: "#7ee08a",
  check: "#ffd166",
  "do not use": "#ff8f80",
  failed: "#ff8f80",
  outdated: "#b9c0cc",
  "not ticked": "#b9c0cc",
  "being checked": "#b9c0cc",
};

/** @type {(status: Status) => string} */
export const statusColour = (status) => COLOURS[status.use];

/** @type {(status: Status) => boolean} whether it is drawn in its status's colour, and paler */
export const faded = ({ use }) => use === "outdated" || use === "not ticked" || use === "do not use";

/**
 * What stands beside a vertebra's name in pictures; nothing where there is nothing to beware of.
 * @param {Status} status
 */
export const caution = ({ use }) => ["", "good", "being checked", "not ticked"].includes(use) ? "" : ` ${use}`;

/**
 * Confidence has a shape as well as a colour: circle, diamond, triangle; square for what a person set.
 * @param {Mark} mark
 */
export function grade(mark) {
  if (mark.set_by === "edited") return { name: "set by hand", colour: "#7dd3ff", path: "M-1-1H1V1H-1Z" };
  if (mark.interpolated) return { name: "interpolated", colour: "#ff8f80", path: "M0-1.5 1.5 1.2H-1.5Z" };
  if (mark.confidence >= 0.8) return { name: "sure", colour: "#7ee08a", path: "M0-1.15A1.15 1.15 0 1 1-.01-1.15Z" };
  if (mark.confidence >= 0.5) return { name: "less sure", colour: "#ffd166", path: "M0-1.5 1.5 0 0 1.5-1.5 0Z" };
  return { name: "unsure", colour: "#ff8f80", path: "M0-1.5 1.5 1.2H-1.5Z" };
}
