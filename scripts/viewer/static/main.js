// Puts the parts together: opening, reconstructing, measuring, exporting, keys.

import * as api from "./api.js";
import { buttonOf, byId, dialogOf, element, inputOf, messageOf, within } from "./dom.js";
import { usual, VIEWS } from "./levels.js";
import { keepMeasures } from "./measures.js";
import { offerOpening } from "./opening.js";
import { EXPORTS, Panel } from "./panel.js";
import { Path } from "./path.js";
import { Radiograph } from "./radiograph.js";
import { Cases } from "./resume.js";
import { PRESETS, Scene } from "./scene.js";
import { Sight } from "./sight.js";
import { State } from "./state.js";
import { keepSurfaces } from "./surfaces.js";
import { Work } from "./work.js";
import { askForLevels } from "./wronglevel.js";

const state = new State();
const work = new Work(state, { status, toast, progress: showProgress });
const panel = new Panel(state, toast);
const sight = new Sight(state);
for (const view of VIEWS) new Radiograph(within(document, `section[data-view=${view}]`), view, state, sight, toast);
state.onChange((what) => what === "case" && sight.fit());
const scene = new Scene(byId("scene"), byId("canvas"), byId("names"), state);
keepSurfaces(state, work, scene, toast);
keepMeasures(state, work);
askForLevels(state, toast);
const path = new Path(state, work);
const cases = new Cases(state, work, { status, toast });
offerOpening(cases);
let toastTimer = 0;

/** @param {string} text */
function toast(text) {
  if (dialogOf("open-dialog").open) byId("open-error").textContent = text;
  byId("toast").textContent = text;
  byId("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => {
    byId("toast").hidden = true;
  }, 8000);
}

/** @param {string} text */
function status(text) {
  byId("status").textContent = byId("status").title = text;
}

/**
 * How far the reconstruction is; null if none is running.
 * @param {number | null} share
 */
function showProgress(share) {
  const running = share !== null;
  const bar = element("progress", HTMLProgressElement);
  bar.hidden = byId("cancel").hidden = !running;
  bar.value = share ?? 0;
  buttonOf("reconstruct").disabled = running;
  path.draw();
}

state.onChange((what) => {
  // What was said last is not of these marks and ticks.
  if (what === "marks" && !work.running) status("");
  if (what === "settled") work.settle();
  if (what === "marks" && !state.dragging) work.settleSoon();
});

byId("sample").addEventListener("click", () => cases.open(api.openSample));
byId("save").addEventListener("click", save);
byId("undo").addEventListener("click", () => undo());
byId("redo").addEventListener("click", () => redo());
/**
 * What a box of the page switches on and off.
 * @type {(id: string, apply: (on: boolean) => void) => void}
 */
function onTicked(id, apply) {
  const box = inputOf(id);
  box.addEventListener("change", () => apply(box.checked));
}

onTicked("linked", (on) => {
  state.linked = on;
});
byId("reconstruct").addEventListener("click", reconstruct);
byId("cancel").addEventListener("click", () => api.cancel(state.opened.id));
byId("help-button").addEventListener("click", () => dialogOf("help").showModal());

function reconstruct() {
  if (!state.chosen.size) return toast("Tick vertebrae first, under “use”.");
  return work.reconstruct(state.sorted(state.chosen));
}

async function save() {
  try {
    await work.send();
    const { saved } = state;
    await api.download(api.sessionUrl(state.opened.id));
    cases.inFile = saved;
  } catch (error) {
    if (!(error instanceof api.Gone || error instanceof api.Silent)) return toast(messageOf(error));
    const { now } = state;
    api.give(new Blob([JSON.stringify(state.document(), null, 1)]), "annotations.json");
    cases.inFile = now;
    toast("The service has no such case any more or does not answer: this window has written the marks.");
  }
}

function undo() {
  state.undo();
  state.changed("settled");
}

function redo() {
  state.redo();
  state.changed("settled");
}

for (const [kind, label] of EXPORTS) {
  const button = Object.assign(document.createElement("button"), { textContent: label });
  button.dataset.kind = kind;
  button.addEventListener("click", async () => {
    // Of a ticked vertebra that is outdated or not reconstructed the service says so.
    const levels = state.sorted(state.chosen);
    if (!levels.some((level) => state.results[level])) {
      return toast("Nothing to export: tick vertebrae and reconstruct them first.");
    }
    status(`exporting ${label}…`);
    try {
      await work.send();
      await api.download(api.exportUrl(state.opened.id, kind, levels));
      status(`${label} exported`);
      path.exported();
    } catch (error) {
      status("");
      toast(messageOf(error));
    }
  });
  byId("exports").append(button);
}

/** @type {("azimuth" | "elevation" | "roll")[]} */
const ANGLES = ["azimuth", "elevation", "roll"];
const [azimuth, elevation, roll] = ANGLES.map((name) => inputOf(name));
for (const input of [azimuth, elevation, roll]) {
  input.addEventListener("input", () => scene.view(+azimuth.value, +elevation.value, +roll.value));
}
scene.onTurned = () => {
  for (const name of ANGLES) {
    inputOf(name).value = String(scene[name]);
    within(document, `output[for=${name}]`).textContent = `${Math.round(scene[name])}°`;
  }
};
/** @type {(id: string, apply: (value: number) => void, text: (value: string) => string) => void} */
function look(id, apply, text) {
  const input = inputOf(id);
  const update = () => {
    apply(Number(input.value));
    within(document, `output[for=${id}]`).textContent = text(input.value);
    scene.ask();
  };
  input.addEventListener("input", update);
  update();
}
look("opacity", (value) => {
  scene.opacity = value / 100;
}, (value) => `${value} %`);
look("explode", (value) => scene.explode(value), (value) => `${value} mm`);
onTicked("films", (on) => scene.hang(on));
onTicked("plates", (on) => {
  state.platesShown = on;
  state.changed("look");
});
onTicked("compare", (on) => {
  state.comparing = on;
  state.changed("look");
});
onTicked("show-names", (on) => {
  scene.named = on;
  scene.ask();
});
onTicked("isolate", (on) => {
  scene.isolated = on;
  scene.ask();
});
for (const [name, angles] of Object.entries(PRESETS)) {
  within(document, `[data-preset=${name}]`).addEventListener("click", () => scene.view(...angles));
}
byId("fit").addEventListener("click", () => scene.fit());
scene.onTurned();

/** @param {number} by */
function step(by) {
  const levels = state.levels();
  if (!levels.length) return;
  const at = levels.indexOf(state.selected ?? "");
  state.select(levels[at < 0 ? 0 : (at + by + levels.length) % levels.length]);
}

/** Whether the keys are meant for a film. */
const onFilm = () => document.activeElement?.closest("svg[data-view]") !== null;

/** @type {[keys: string, what: string, actions: Record<string, () => unknown> | null][]} */
const KEYS = [
  ["Tab, click", "choose a mark", null],
  ["arrows (Shift: 10)", "move the mark; in 3D: turn", null],
  ["[ and ]", "the vertebra above, below", { "[": () => step(-1), "]": () => step(1) }],
  ["double click", "add a mark", null],
  ["Del", "remove the vertebra", {
    Delete: () => state.selected && state.remove(state.selected),
  }],
  ["Backspace", "the same, on a film", {
    Backspace: () => onFilm() && state.selected && state.remove(state.selected),
  }],
  ["+ and -", "name it one level lower, higher", { "+": () => rename(1), "-": () => rename(-1) }],
  ["Space", "choose it for reconstruction, or not", { " ": () => state.selected && state.toggle(state.selected) }],
  ["P", "end plates and angles, or not", {
    p: () => {
      byId("plates").click();
    },
  }],
  ["R", "reconstruct what is chosen", { r: reconstruct }],
  ["Esc", "cancel the reconstruction", { Escape: () => work.running && api.cancel(state.opened.id) }],
  [
    "1 2 3 4",
    "AP, LAT, top, 60°",
    Object.fromEntries(Object.values(PRESETS).map((angles, i) => [String(i + 1), () => scene.view(...angles)])),
  ],
  ["F", "fit all views", {
    f: () => {
      sight.fit();
      scene.fit();
    },
  }],
  ["K", "link the heights, or not", {
    k: () => {
      byId("linked").click();
    },
  }],
  ["E", "to the exports", { e: () => within(byId("exports"), "button").focus() }],
  ["O", "open films", { o: () => dialogOf("open-dialog").showModal() }],
  ["Ctrl+Z, Ctrl+Y", "undo, redo", null],
  ["Ctrl+S", "save the marks", null],
  ["?", "these keys", { "?": () => dialogOf("help").showModal() }],
];
/** @type {Record<string, () => unknown>} */
const actions = Object.assign({}, ...KEYS.map(([, , keys]) => keys ?? {}));
for (const [keys, what] of KEYS) {
  const row = element("keys", HTMLTableElement).insertRow();
  row.insertCell().textContent = keys;
  row.insertCell().textContent = what;
}

/** @param {number} by */
function rename(by) {
  if (!state.selected) return;
  const known = usual(state.order, state.selected);
  const name = known[known.indexOf(state.selected) + by];
  if (!name) return;
  panel.select.value = name;
  panel.relabel();
}

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || !state.case) return;
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.matches("input[type=text]")) return;
  const letter = event.key.toLowerCase();
  if (event.ctrlKey || event.metaKey) {
    /** @type {Record<string, () => unknown>} */
    const edits = { z: event.shiftKey ? redo : undo, y: redo, s: save };
    const action = edits[letter];
    if (action) {
      event.preventDefault();
      action();
    }
    return;
  }
  if (target.matches("select")) return;
  if (event.key === " " && target.matches("button, input, summary")) return;
  const action = actions[event.key] ?? actions[letter];
  if (action) {
    event.preventDefault();
    action();
  }
});

Object.assign(window, { viewer: { state, scene, work } }); // for the tests
cases.open(api.openFirst).then(() => cases.offer());
