// Puts the parts together: opening, reconstructing, measuring, exporting, keys.

import * as api from "./api.js";
import { buttonOf, byId, dialogOf, element, inputOf, messageOf, within } from "./dom.js";
import { EXPORTS, Panel } from "./panel.js";
import { Radiograph } from "./radiograph.js";
import { PRESETS, Scene } from "./scene.js";
import { State, VIEWS } from "./state.js";

const state = new State();
const panel = new Panel(state, toast);
const films = VIEWS.map((view) => new Radiograph(within(document, `section[data-view=${view}]`), view, state, toast));
const scene = new Scene(byId("scene"), byId("canvas"), byId("names"), state);
const progress = element("progress", HTMLProgressElement);
let running = false;
let toastTimer = 0;

/** @param {string} text */
function toast(text) {
  byId("toast").textContent = text;
  byId("toast").hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => {
    byId("toast").hidden = true;
  }, 8000);
}

/** @param {string} text */
function status(text) {
  byId("status").textContent = text;
}

/** @param {Promise<Case>} promise */
async function open(promise) {
  status("opening…");
  try {
    const description = await promise;
    if (state.case) api.close(state.case.id).catch(() => {});
    state.load(description);
    panel.drawMeasurements({ note: "after the reconstruction" });
    status(`${state.paired().length} vertebrae marked`);
    return true;
  } catch (error) {
    status("");
    toast(messageOf(error));
    byId("open-error").textContent = messageOf(error);
    return false;
  }
}

// Marks go to the service before anything that depends on them; one at a time, the newest last.
/** @type {Promise<void>} */
let sending = Promise.resolve();
function sendMarks() {
  const { id } = state.opened;
  sending = sending.catch(() => {}).then(async () => {
    if (state.case?.id !== id || state.saved === state.marks) return;
    const sent = state.marks;
    const answer = await api.putMarks(id, state.views(), state.uncertain);
    state.saved = sent;
    Object.assign(state.case, { geometry: answer.geometry, warnings: answer.warnings });
    state.changed("warnings");
  });
  return sending;
}

/** @param {string[]} levels */
async function reconstruct(levels) {
  if (running || !state.case || !levels.length) return;
  running = true;
  const { id } = state.case;
  progress.hidden = byId("cancel").hidden = false;
  progress.value = 0;
  buttonOf("reconstruct").disabled = true;
  const started = performance.now();
  try {
    await sendMarks();
    /** @type {Promise<void>[]} */
    const drawn = [];
    await api.reconstruct(id, levels, (result) => {
      if (state.case?.id !== id) return;
      progress.value = result.done / result.total;
      if (result.cancelled) return status(`cancelled after ${result.done} of ${result.total}`);
      status(`${result.done} of ${result.total}: ${result.level}`);
      const marks = [state.marks.ap[result.level]?.centroid, state.marks.lat[result.level]?.centroid];
      const earlier = state.results[result.level];
      if (earlier?.outlines && earlier.key !== result.key) state.before[result.level] = earlier;
      state.results[result.level] = { ...result, marked: JSON.stringify(marks) };
      if (result.error) scene.drop(result.level);
      else drawn.push(api.mesh(id, result.level, result.key).then((mesh) => scene.put(result.level, result.key, mesh)));
      state.changed("results");
      if (result.done === result.total) {
        status(`${result.total} vertebrae in ${((performance.now() - started) / 1000).toFixed(1)} s`);
      }
    }, ({ waiting, level, number, total }) => {
      status(waiting ? `${waiting} before ${level} in the queue` : `computing ${level}, ${number} of ${total}`);
    });
    await Promise.all(drawn);
    if (!scene.framed && scene.meshes.size) {
      scene.fit();
      scene.framed = true;
    }
    const failed = Object.values(state.results).filter((result) => result.error);
    if (failed.length) toast(failed.map((result) => result.error).join("\n"));
  } catch (error) {
    status("");
    toast(messageOf(error));
  } finally {
    running = false;
    progress.hidden = byId("cancel").hidden = true;
    buttonOf("reconstruct").disabled = false;
  }
  await measure();
}

const done = () => state.sorted(Object.keys(state.results).filter((level) => !state.results[level].error));

async function measure() {
  if (!state.case || !done().length) return panel.drawMeasurements({ note: "after the reconstruction" });
  panel.drawMeasurements({ note: "measuring …" });
  try {
    const measured = await api.measurements(state.case.id, done());
    panel.drawMeasurements(measured);
    // Neighbours change a vertebra's confidence: what is told of all together is what the report says.
    for (const { level, confidence, flags } of measured.vertebrae ?? []) {
      if (state.results[level]) Object.assign(state.results[level], { confidence, flags });
    }
    state.changed("results");
  } catch (error) {
    panel.drawMeasurements({ note: messageOf(error) });
  }
}

// A settled correction re-reconstructs what it changed, if that was there before.
async function correct() {
  const stale = done().filter((level) => {
    const marks = [state.marks.ap[level]?.centroid, state.marks.lat[level]?.centroid];
    return marks[0] && marks[1] && state.results[level].marked !== JSON.stringify(marks);
  });
  if (stale.length && stale.length <= 3) await reconstruct(stale);
  else if (state.case) await sendMarks().catch((error) => toast(messageOf(error)));
}

state.onChange((what) => {
  if (what === "settled") correct();
  if (what === "marks") {
    for (const level of Object.keys(state.results)) {
      if (!(level in state.marks.ap) || !(level in state.marks.lat)) {
        delete state.results[level];
        delete state.before[level];
        scene.drop(level);
      }
    }
  }
  if (what === "results") {
    for (const level of [...scene.meshes.keys()]) if (!state.results[level]) scene.drop(level);
  }
});

/** @type {(ap: File, lat: File, annotations?: File, geometry?: File) => FormData} */
function filesForm(ap, lat, annotations, geometry) {
  const form = new FormData();
  form.append("ap", ap);
  form.append("lat", lat);
  if (annotations) form.append("annotations", annotations);
  if (geometry) form.append("geometry", geometry);
  /** @param {string} what */
  const ticked = (what) => VIEWS.filter((view) => inputOf(`${what}-${view}`).checked);
  const spacing = inputOf("spacing").value.split(/[,; ]+/).filter(Boolean).map(Number);
  form.append("options", JSON.stringify({ spacing, mirror: ticked("mirror"), invert: ticked("invert") }));
  return form;
}

byId("open").addEventListener("click", () => dialogOf("open-dialog").showModal());
byId("open-go").addEventListener("click", async (event) => {
  event.preventDefault();
  const [ap, lat, annotations, geometry] = ["ap", "lat", "annotations", "geometry"].map((name) =>
    inputOf(`file-${name}`).files?.[0]
  );
  if (!ap || !lat) {
    byId("open-error").textContent = "Choose both films.";
    return;
  }
  byId("open-error").textContent = "";
  if (await open(api.openFiles(filesForm(ap, lat, annotations, geometry)))) dialogOf("open-dialog").close();
});

// Two films dropped: which is which follows their names, else their shapes (a lateral film is the narrower one).
document.addEventListener("dragover", (event) => {
  event.preventDefault();
  document.body.classList.add("dropping");
});
document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dropping");
  const files = [...(event.dataTransfer?.files ?? [])];
  const marks = files.find((file) => file.name.endsWith(".json"));
  const pair = files.filter((file) => file !== marks);
  const lat = pair.find((file) => /lat|side|sag/i.test(file.name));
  const ap = pair.find((file) => file !== lat && /ap|pa|front|cor/i.test(file.name)) ??
    pair.find((file) => file !== lat);
  if (pair.length !== 2 || !lat || !ap) {
    return toast("Drop two films, the lateral one with 'lat' in its name, or use Open.");
  }
  open(api.openFiles(filesForm(ap, lat, marks)));
});

byId("sample").addEventListener("click", () => open(api.openSample()));
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
byId("reconstruct").addEventListener("click", () => reconstruct(state.sorted(state.chosen)));
byId("cancel").addEventListener("click", () => api.cancel(state.opened.id));
byId("help-button").addEventListener("click", () => dialogOf("help").showModal());

async function save() {
  try {
    await sendMarks();
    await api.download(api.sessionUrl(state.opened.id));
  } catch (error) {
    toast(messageOf(error));
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
    const levels = done();
    if (!levels.length) return toast("Reconstruct first.");
    status(`exporting ${label}…`);
    try {
      await api.download(api.exportUrl(state.opened.id, kind, levels));
      status(`${label} exported`);
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

/** @type {[keys: string, what: string, actions: Record<string, () => unknown> | null][]} */
const KEYS = [
  ["Tab, click", "choose a mark", null],
  ["arrows (Shift: 10)", "move the mark; in 3D: turn", null],
  ["[ and ]", "the vertebra above, below", { "[": () => step(-1), "]": () => step(1) }],
  ["double click", "add a mark", null],
  ["Del", "remove the vertebra", {
    Delete: () => state.selected && state.remove(state.selected),
    Backspace: () => state.selected && state.remove(state.selected),
  }],
  ["+ and -", "name it one level lower, higher", { "+": () => rename(1), "-": () => rename(-1) }],
  ["Space", "choose it for reconstruction, or not", { " ": () => state.selected && toggle(state.selected) }],
  ["R", "reconstruct what is chosen", { r: () => reconstruct(state.sorted(state.chosen)) }],
  ["Esc", "cancel the reconstruction", { Escape: () => running && api.cancel(state.opened.id) }],
  [
    "1 2 3 4",
    "AP, LAT, top, 60°",
    Object.fromEntries(Object.values(PRESETS).map((angles, i) => [String(i + 1), () => scene.view(...angles)])),
  ],
  ["F", "fit all views", {
    f: () => {
      films.forEach((film) => film.fit());
      scene.fit();
    },
  }],
  ["K", "link the heights, or not", {
    k: () => {
      byId("linked").click();
    },
  }],
  ["O", "open two films", { o: () => dialogOf("open-dialog").showModal() }],
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

byId("levels-right").addEventListener("click", () => {
  state.settle();
  sendMarks().catch((error) => toast(messageOf(error)));
});

/** @param {number} by */
function rename(by) {
  if (!state.selected) return;
  const usual = state.order.filter((level) => (level !== "T13" && level !== "L6") || level === state.selected);
  const name = usual[usual.indexOf(state.selected) + by];
  if (!name) return;
  panel.select.value = name;
  panel.relabel();
}

/** @param {string} level */
function toggle(level) {
  state.chosen[state.chosen.has(level) ? "delete" : "add"](level);
  state.changed("look");
}

document.addEventListener("keydown", (event) => {
  if (document.querySelector("dialog[open]") || !state.case) return;
  const target = event.target instanceof Element ? event.target : document.body;
  if (target.matches("input[type=text], select")) return;
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
  if (event.key === " " && target.matches("button, input")) return;
  const action = actions[event.key] ?? actions[letter];
  if (action) {
    event.preventDefault();
    action();
  }
});

window.addEventListener("pagehide", () => {
  if (state.case) fetch(`/api/cases/${state.case.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
});
Object.assign(window, { viewer: { state, scene } }); // for the tests
open(api.openFirst());
