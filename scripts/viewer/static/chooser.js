// The step "Films": which of the files are the two films, and how each lies.

import { Chosen, possible, sizeIsOpen } from "./chosen.js";
import { buttonOf, byId, element, within } from "./dom.js";
import { VIEWS } from "./levels.js";
import { draw, svg } from "./placing.js";

/** @type {PerView<string>} */
export const NAMES = { ap: "frontal", lat: "lateral" };
/** @type {PerView<string>} */
const SHOULD = { ap: "the patient's right at the left", lat: "the patient facing left" };

export class Chooser {
  chosen = new Chosen();

  /** @param {(film: ChosenFilm, view: ViewName) => void} measure asked to draw a known length */
  constructor(measure) {
    for (const view of VIEWS) this.fill(view, measure);
    byId("swap").addEventListener("click", () => {
      this.chosen.swap();
      this.draw();
    });
  }

  clear() {
    this.chosen = new Chosen();
    this.draw();
  }

  /**
   * The tile of a film, with all that can be done to it.
   * @param {ViewName} view
   * @param {(film: ChosenFilm, view: ViewName) => void} measure
   */
  fill(view, measure) {
    const tile = tileOf(view);
    tile.append(element("tile", HTMLTemplateElement).content.cloneNode(true));
    /** @type {(what: string, change: (film: ChosenFilm) => void) => void} */
    const on = (what, change) =>
      within(tile, `[data-do=${what}]`).addEventListener("click", () => {
        const film = this.chosen.picked[view];
        if (film) change(film);
        this.draw();
      });
    on("turn", (film) => {
      film.turn = (film.turn + 90) % 360;
    });
    on("mirror", (film) => {
      film.mirror = !film.mirror;
    });
    on("invert", (film) => {
      film.invert = !film.invert;
    });
    within(tile, "[data-do=measure]").addEventListener("click", () => {
      const film = this.chosen.picked[view];
      if (film) measure(film, view);
    });
    const size = sizeOf(tile);
    size.addEventListener("input", () => {
      const film = this.chosen.picked[view];
      const typed = size.value.trim().replace(",", ".");
      if (film) film.spacing = typed ? Number(typed) : null;
      this.words(view);
    });
  }

  draw() {
    const { chosen } = this;
    byId("films-step").hidden = !chosen.films.length;
    for (const view of VIEWS) {
      const film = chosen.picked[view];
      const tile = tileOf(view);
      draw(tile.querySelector("svg") ?? svg("svg"), film);
      within(tile, ".empty").hidden = film !== null;
      const size = sizeOf(tile);
      size.value = film?.spacing ? String(Number(film.spacing.toPrecision(5))) : "";
      size.placeholder = film?.pixel_mm
        ? film.pixel_mm.map((mm) => Number(mm.toPrecision(4))).join(" × ")
        : "not known";
      size.disabled = !film || !sizeIsOpen(film);
      /** @type {Record<string, boolean>} */
      const blocked = {
        turn: film?.placed ?? true,
        mirror: film?.placed ?? true,
        invert: !film,
        measure: size.disabled,
      };
      for (const [what, off] of Object.entries(blocked)) {
        const button = within(tile, `[data-do=${what}]`);
        button.toggleAttribute("disabled", off);
        button.title = off && film?.placed ? "a NIfTI film says this itself" : "";
      }
      within(tile, "[data-do=mirror]").setAttribute("aria-pressed", String(film?.mirror ?? false));
      within(tile, "[data-do=invert]").setAttribute("aria-pressed", String(film?.invert ?? false));
      this.words(view);
    }
    this.list();
    byId("extras").replaceChildren(...chosen.extras.map((extra) => this.extra(extra)));
    const refused = byId("refused");
    refused.hidden = !chosen.refused.length;
    within(refused, "summary").textContent = `Not used: ${chosen.refused.length}`;
    within(refused, "ul").replaceChildren(
      ...chosen.refused.map(({ given, reason }) =>
        Object.assign(document.createElement("li"), { textContent: `${given}: ${reason}` })
      ),
    );
  }

  /**
   * What is known of a film, and what is only taken for granted.
   * @param {ViewName} view
   */
  words(view) {
    const film = this.chosen.picked[view];
    const tile = tileOf(view);
    within(tile, ".given").textContent = film?.given ?? "";
    const said = within(tile, ".view-said");
    said.textContent = film ? viewSaid(film, view) : "";
    said.classList.toggle("doubt", film !== null && (film.known !== "header" || film.view !== view));
    const asSaid = !film || (film.oriented && !film.turn && !film.mirror);
    within(tile, ".lies").textContent = asSaid
      ? ""
      : `It has to show ${SHOULD[view]}, the head at the top, bones bright.`;
    within(tile, ".scale").textContent = film ? scaleSaid(film) : "";
    buttonOf("open-go").disabled = !this.chosen.complete;
  }

  /** All films, to choose from; not needed where there are two and both are chosen. */
  list() {
    const { films, picked } = this.chosen;
    byId("tiles").hidden = VIEWS.every((view) => !picked[view]);
    byId("choice").hidden = films.length <= 2 && VIEWS.every((view) => picked[view]);
    byId("found-films").replaceChildren(...films.map((film) => {
      const row = document.createElement("li");
      const picture = svg("svg", { class: "small", "aria-hidden": "true" });
      draw(picture, film);
      const words = document.createElement("span");
      words.textContent = `${film.given}: ${viewSaid(film, film.view)}`;
      row.append(picture, words);
      for (const view of VIEWS) {
        const button = Object.assign(document.createElement("button"), { textContent: view.toUpperCase() });
        button.setAttribute("aria-pressed", String(picked[view] === film));
        button.setAttribute("aria-label", `${film.given} is the ${NAMES[view]} film`);
        button.dataset.pick = `${view}-${film.name}`;
        button.addEventListener("click", () => {
          this.chosen.pick(film, view);
          this.draw();
          // The list was drawn anew, and is gone if nothing is left to choose.
          const again = byId("choice").hidden ? "#open-go" : `[data-pick="${button.dataset.pick}"]`;
          within(document, again).focus();
        });
        row.append(button);
      }
      return row;
    }));
  }

  /** @param {import("./chosen.js").Extra} extra */
  extra(extra) {
    const label = document.createElement("label");
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: extra.used });
    box.addEventListener("change", () => {
      this.chosen.use(extra, box.checked);
      this.draw();
    });
    label.append(box, ` ${extra.kind === "annotations" ? "Marks" : "Geometry"}: ${extra.given}`);
    return label;
  }
}

const tileOf = (/** @type {ViewName} */ view) => within(document, `.tile[data-slot=${view}]`);

/** @param {HTMLElement} tile */
function sizeOf(tile) {
  const input = tile.querySelector("input");
  if (!input) throw new Error("the tile has no field for the pixel size");
  return input;
}

/** @type {(film: ChosenFilm, view: ViewName | "") => string} */
function viewSaid(film, view) {
  const said = film.view.toUpperCase();
  const where = film.attribute ? ` (${film.attribute})` : "";
  if (film.oblique) return `oblique by its header${where}: shapes from it are wrong`;
  if (film.known === "header") return `${film.view === view ? "" : "but it is the "}${said} by its header${where}`;
  if (film.known === "name") return `${said} is only guessed from the file's name: look at it`;
  return "the file does not say which view it is: look at it";
}

/** @param {ChosenFilm} film */
function scaleSaid(film) {
  if (film.spacing !== null) {
    return possible(film.spacing) ? "Pixel size set by you, in the patient." : "No film has pixels of this size.";
  }
  if (film.pixel_mm) return `Pixel size by its file${film.scale ? `: ${film.scale}` : ""}.`;
  const why = film.scale ? `${film.scale}. ` : "";
  if (!film.square) return `${why}Its pixels are not square: their size has to come in a geometry file.`;
  return `${why}Pixel size not known: lengths will be estimated from the spine (± 7 to 10 %); angles do not need it.`;
}
