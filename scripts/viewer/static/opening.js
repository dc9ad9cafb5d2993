// Opening two films: the dialog, and files that are dropped on the page.

import * as api from "./api.js";
import { byId, dialogOf, inputOf } from "./dom.js";
import { VIEWS } from "./levels.js";

/** @import { Cases } from "./resume.js" */

const FIELDS = ["ap", "lat", "annotations", "geometry"];

/** @param {string} field */
const chosen = (field) => inputOf(`file-${field}`).files?.[0];

/** @type {(field: string, file: File | undefined) => void} */
function choose(field, file) {
  const list = new DataTransfer();
  if (file) list.items.add(file);
  inputOf(`file-${field}`).files = list.files;
}

/** @param {Cases} cases */
export function offerOpening(cases) {
  const dialog = dialogOf("open-dialog");
  /** @param {string} text */
  const say = (text) => {
    byId("open-error").textContent = text;
  };
  const open = async () => {
    if (!chosen("ap") || !chosen("lat")) return say("Choose both films.");
    say("");
    const form = filesForm();
    if (await cases.open(() => api.openFiles(form))) dialog.close();
  };
  byId("open").addEventListener("click", () => dialog.showModal());
  byId("open-go").addEventListener("click", (event) => {
    event.preventDefault();
    open();
  });
  byId("swap").addEventListener("click", () => {
    const [ap, lat] = VIEWS.map(chosen);
    choose("ap", lat);
    choose("lat", ap);
    say("");
  });
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  document.addEventListener("drop", (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    const { ap, lat, marks, sure } = sorted([...(event.dataTransfer?.files ?? [])]);
    choose("ap", ap);
    choose("lat", lat);
    choose("annotations", marks);
    choose("geometry", undefined);
    if (sure) return open();
    say(
      ap && lat
        ? "The names do not say which film is which: compare, swap them if they are the wrong way round, and open."
        : "Drop two films, with their marks if you have them.",
    );
    if (!dialog.open) dialog.showModal();
  });
}

/**
 * Which of the dropped files is which; sure only if the name of one film says it.
 * @param {File[]} files
 */
function sorted(files) {
  const marks = files.find((file) => file.name.endsWith(".json"));
  const films = files.filter((file) => file !== marks);
  if (films.length !== 2) return { marks, sure: false };
  const lateral = films.find((file) => /lat|side|sag/i.test(file.name));
  const frontal = films.find((file) => file !== lateral && /ap|pa|front|cor/i.test(file.name));
  const ap = frontal ?? films.find((file) => file !== lateral);
  return { ap, lat: lateral ?? films.find((file) => file !== ap), marks, sure: lateral !== undefined };
}

/** What the dialog says. */
function filesForm() {
  const form = new FormData();
  for (const field of FIELDS) {
    const file = chosen(field);
    if (file) form.append(field, file);
  }
  /** @param {string} what */
  const ticked = (what) => VIEWS.filter((view) => inputOf(`${what}-${view}`).checked);
  const spacing = inputOf("spacing").value.split(/[,; ]+/).filter(Boolean).map(Number);
  form.append("options", JSON.stringify({ spacing, mirror: ticked("mirror"), invert: ticked("invert") }));
  return form;
}
