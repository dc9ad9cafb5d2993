// The controls below a film: brightness, inversion, mirrored display.

import { setAll } from "./svg.js";

/** @import { Radiograph } from "./radiograph.js" */

/** @param {Radiograph} film */
export function addTools(film) {
  const tools = document.createElement("div");
  tools.className = "tools";
  const title = document.createElement("strong");
  title.textContent = film.name.toUpperCase();
  /** @type {(label: string, key: "level" | "window", low: number, high: number) => HTMLElement} */
  const slider = (label, key, low, high) => {
    const holder = document.createElement("label");
    const input = document.createElement("input");
    // The range comes before the value, which it would cut off.
    setAll(input, { type: "range", min: low, max: high, step: 0.01, value: film[key] });
    input.dataset.tool = key;
    holder.append(label, input);
    input.addEventListener("input", () => {
      film[key] = Number(input.value);
      film.drawWindow();
    });
    return holder;
  };
  /** @type {(label: string, tool: string, action: () => void) => HTMLButtonElement} */
  const button = (label, tool, action) => {
    const made = Object.assign(document.createElement("button"), { textContent: label });
    made.dataset.tool = tool;
    made.addEventListener("click", () => {
      action();
      if (made.hasAttribute("aria-pressed")) made.ariaPressed = String(made.ariaPressed !== "true");
    });
    return made;
  };
  const invert = button("Invert", "invert", () => {
    film.inverted = !film.inverted;
    film.drawWindow();
  });
  const flip = button("Flip", "flip", () => {
    film.flipped = !film.flipped;
    film.open();
    film.sight.show();
  });
  for (const toggle of [invert, flip]) toggle.setAttribute("aria-pressed", "false");
  flip.title = "Mirror the display only; the letters follow";
  tools.append(
    title,
    slider("Level", "level", 0, 1),
    slider("Window", "window", 0.05, 2),
    invert,
    flip,
    button("Fit", "fit", () => film.sight.fit()),
  );
  film.section.append(film.svg, tools);
}
