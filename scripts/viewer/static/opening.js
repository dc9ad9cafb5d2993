// Opening films: files are dropped or chosen, sent, looked at, and opened.

import * as api from "./api.js";
import { Chooser, NAMES } from "./chooser.js";
import { sizeIsOpen } from "./chosen.js";
import { buttonOf, byId, dialogOf, element, inputOf, messageOf, within } from "./dom.js";
import { filesOf, visible } from "./dropped.js";
import { VIEWS } from "./levels.js";
import { Ruler } from "./ruler.js";

/** @import { Cases } from "./resume.js" */

/** @param {Cases} cases */
export function offerOpening(cases) {
  const dialog = dialogOf("open-dialog");
  const chooser = new Chooser((film, view) => showRuler(film, view));
  const ruler = new Ruler((film, spacing, both) => {
    const films = both ? VIEWS.map((view) => chooser.chosen.picked[view]) : [film];
    for (const one of films) if (one && sizeIsOpen(one)) one.spacing = spacing;
    hideRuler();
  });
  /** @type {{ id: string, most_files: number } | null} what was sent and is not opened */
  let collection = null;
  /** @type {AbortController | null} of what is going on */
  let stop = null;
  /** @type {HTMLElement | null} where the ruler was asked for */
  let asked = null;

  /** @param {string} text */
  const say = (text) => {
    byId("open-error").textContent = text;
  };
  /** @type {(text: string, share?: number) => void} */
  const progress = (text, share) => {
    byId("open-status").textContent = text;
    const bar = element("open-progress", HTMLProgressElement);
    if (share === undefined) bar.removeAttribute("value");
    else bar.value = share;
  };

  /** @type {(film: ChosenFilm, view: ViewName) => void} */
  function showRuler(film, view) {
    asked = document.activeElement instanceof HTMLElement ? document.activeElement : null;
    dialog.classList.add("ruling");
    byId("ruler").hidden = false;
    ruler.open(film, NAMES[view]);
  }

  function hideRuler() {
    dialog.classList.remove("ruling");
    byId("ruler").hidden = true;
    chooser.draw();
    asked?.focus();
  }

  /**
   * Something that can be cancelled; errors are told.
   * @param {(signal: AbortSignal) => Promise<void>} work
   */
  async function busy(work) {
    const mine = stop = new AbortController();
    say("");
    dialog.classList.add("busy");
    byId("opening").inert = true;
    byId("open-cancel").focus();
    try {
      await work(mine.signal);
    } catch (error) {
      if (!mine.signal.aborted) say(messageOf(error));
    } finally {
      if (stop === mine) stop = null;
      dialog.classList.remove("busy");
      byId("opening").inert = false;
      progress("");
      chooser.draw();
      byId(chooser.chosen.complete ? "open-go" : "ask-files").focus();
    }
  }

  /** @type {(files: File[], signal: AbortSignal) => Promise<void>} */
  async function send(files, signal) {
    progress("sending…", 0);
    collection ??= await api.collect();
    const { id, most_files } = collection;
    if (files.length > most_files) {
      throw new Error(`These are ${files.length} files, ${most_files} are the most: choose the folder of one study.`);
    }
    const total = Math.max(files.reduce((sum, file) => sum + file.size, 0), 1);
    let sent = 0;
    for (const [i, file] of files.entries()) {
      const place = files.length > 1 ? `${i + 1} of ${files.length}, ` : "";
      /** @param {number} bytes */
      const tell = (bytes) => {
        const share = (sent + bytes) / total;
        const doing = bytes < file.size ? "sending" : "reading";
        progress(`${doing} ${place}${file.name} (${Math.floor(100 * share)} %)`, share);
      };
      tell(0);
      try {
        chooser.chosen.add(
          file.name,
          await api.addCandidate(id, file, tell, signal),
          (name) => api.candidateUrl(id, name),
        );
      } catch (error) {
        if (signal.aborted || error instanceof TypeError) throw error;
        chooser.chosen.refused.push({ given: file.name, reason: messageOf(error) });
      }
      sent += file.size;
      chooser.draw();
    }
  }

  /** @param {File[]} files */
  async function take(files) {
    if (!dialog.open) dialog.showModal();
    if (stop) return say("Wait until the other files are read, or cancel.");
    if (!files.length) return say("There are no files in it.");
    if (!byId("ruler").hidden) hideRuler();
    const first = !chooser.chosen.films.length;
    await busy((signal) => send(files, signal));
    if (!chooser.chosen.films.length) {
      within(byId("refused"), "summary").click();
      if (!byId("open-error").textContent) say("None of the files is a radiograph that can be read.");
    } else if (first && chooser.chosen.certain) await open();
  }

  async function open() {
    if (stop || !collection || !chooser.chosen.complete) return;
    const { id } = collection;
    await busy(async (signal) => {
      progress("opening…");
      const done = await cases.open(() =>
        api.openChosen(id, chooser.chosen.request, ({ step, waiting }) => {
          progress(waiting ? `${waiting} before this in the queue: ${step}` : `${step}…`);
        }, signal)
      );
      if (!done) return;
      collection = null;
      dialog.close();
    });
  }

  /** What was sent and not opened is deleted. */
  function forget() {
    stop?.abort();
    if (collection) api.close(collection.id).catch(() => {});
    collection = null;
    chooser.clear();
    say("");
  }

  byId("open").addEventListener("click", () => dialog.showModal());
  byId("open-go").addEventListener("click", open);
  byId("open-close").addEventListener("click", () => dialog.close());
  byId("open-cancel").addEventListener("click", () => stop?.abort());
  byId("ruler-back").addEventListener("click", hideRuler);
  dialog.addEventListener("cancel", (event) => {
    if (byId("ruler").hidden) return;
    event.preventDefault();
    hideRuler();
  });
  dialog.addEventListener("close", () => {
    if (!byId("ruler").hidden) hideRuler();
    forget();
  });
  addEventListener("pagehide", () => {
    if (collection) fetch(`/api/cases/${collection.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
  });
  for (const what of ["files", "folder"]) {
    const input = inputOf(`choose-${what}`);
    buttonOf(`ask-${what}`).addEventListener("click", () => input.click());
    input.addEventListener("change", () => {
      const files = visible(input.files ?? []);
      input.value = "";
      take(files);
    });
  }
  document.addEventListener("dragover", (event) => {
    event.preventDefault();
    document.body.classList.add("dropping");
  });
  document.addEventListener("dragleave", () => document.body.classList.remove("dropping"));
  document.addEventListener("drop", async (event) => {
    event.preventDefault();
    document.body.classList.remove("dropping");
    if (event.dataTransfer) take(await filesOf(event.dataTransfer));
  });
}
