// Which of the files that were sent are the two films, and what the user says of them.

import { VIEWS } from "./levels.js";

/** @typedef {{ name: string, given: string, kind: "annotations" | "geometry", used: boolean }} Extra */

/** mm a pixel that a radiograph can have, as scripts/films/spacing.py has them. */
export const POSSIBLE_MM = [0.01, 5];
/** @type {PerView<ViewName>} */
const OTHER = { ap: "lat", lat: "ap" };

/** @param {number} spacing */
export const possible = (spacing) => spacing >= POSSIBLE_MM[0] && spacing <= POSSIBLE_MM[1];

/**
 * Whether the user may say how large the pixels are.
 * @param {ChosenFilm} film
 */
export const sizeIsOpen = (film) => !film.placed && film.square;

export class Chosen {
  /** @type {ChosenFilm[]} */
  films = [];
  /** @type {Extra[]} marks and geometries */
  extras = [];
  /** @type {{ given: string, reason: string }[]} */
  refused = [];
  /** @type {PerView<ChosenFilm | null>} */
  picked = { ap: null, lat: null };
  /** Whether the films are chosen by what their files say. */
  guided = true;

  /**
   * A file that was inspected.
   * @param {string} given the user's name of it
   * @param {Inspected} told
   * @param {(file: string) => string} url of its picture
   */
  add(given, { file, chosen }, url) {
    const { name, kind } = file;
    if ([...this.films, ...this.extras].some((known) => known.name === name)) {
      this.refused.push({ given, reason: "the same file as another one" });
    } else if (kind === "other") this.refused.push({ given, reason: file.reason ?? "" });
    else if (kind !== "film") this.extras.push({ name, given, kind, used: false });
    else {
      const film = /** @type {FoundFilm} */ (file);
      this.films.push({ ...film, given, url: url(name), turn: 0, mirror: false, invert: false, spacing: null });
    }
    for (const extra of this.extras) extra.used = chosen[extra.kind] === extra.name;
    // What the user has picked stays.
    if (!this.guided) return;
    for (const view of VIEWS) this.picked[view] = this.films.find((film) => film.name === chosen[view]) ?? null;
  }

  /**
   * @param {ChosenFilm} film
   * @param {ViewName} view
   */
  pick(film, view) {
    this.guided = false;
    const other = OTHER[view];
    if (this.picked[other] === film) this.picked[other] = this.picked[view];
    this.picked[view] = film;
    // Of two the rest is the other one.
    if (this.films.length === 2) this.picked[other] = this.films.find((one) => one !== film) ?? null;
  }

  swap() {
    this.guided = false;
    this.picked = { ap: this.picked.lat, lat: this.picked.ap };
  }

  /** @type {(extra: Extra, used: boolean) => void} */
  use(extra, used) {
    for (const other of this.extras) if (other.kind === extra.kind) other.used = other === extra && used;
  }

  get complete() {
    return VIEWS.every((view) => {
      const film = this.picked[view];
      return film && (film.spacing === null || possible(film.spacing));
    });
  }

  /** Whether the files themselves say all that is asked here. */
  get certain() {
    return VIEWS.every((view) => {
      const film = this.picked[view];
      return film?.known === "header" && film.oriented && film.pixel_mm && !film.oblique;
    });
  }

  /** @returns {Choice} */
  get request() {
    const films = VIEWS.map((view) => this.picked[view]);
    const [ap, lat] = films.map((film) => film?.name ?? "");
    /** @type {(key: "mirror" | "invert") => ViewName[]} */
    const those = (key) => VIEWS.filter((view) => this.picked[view]?.[key]);
    const extras = this.extras.filter((extra) => extra.used).map(({ kind, name }) => [kind, name]);
    return {
      ap,
      lat,
      ...Object.fromEntries(extras),
      spacing: films.map((film) => film?.spacing ?? null),
      turn: films.map((film) => film?.turn ?? 0),
      mirror: those("mirror"),
      invert: those("invert"),
    };
  }
}
