// Opening and leaving cases: asks before anything is discarded, and offers what was kept.

import * as api from "./api.js";
import { byId, dialogOf, messageOf } from "./dom.js";
import { counted } from "./tables.js";
import { dropDraft, freeDrafts, hold, keepDraft } from "./drafts.js";

/** @import { State } from "./state.js" */
/** @import { Work } from "./work.js" */

export class Cases {
  /**
   * @param {State} state
   * @param {Work} work
   * @param {{ status: (text: string) => void, toast: (text: string) => void }} tell
   */
  constructor(state, work, tell) {
    this.state = state;
    this.work = work;
    this.tell = tell;
    /** @type {Step | null} what can be had again: as opened, or as saved as a file last */
    this.inFile = null;
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
    state.onChange((what) => {
      if (what === "selection" || what === "look") return;
      clearTimeout(this.timer);
      this.timer = setTimeout(() => this.keep(), 200);
    });
    byId("close").addEventListener("click", () => this.close());
    byId("resume-open").addEventListener("click", () => this.offer());
    addEventListener("pagehide", () => {
      this.keep();
      if (state.case && !this.worked) {
        fetch(`/api/cases/${state.case.id}`, { method: "DELETE", keepalive: true }).catch(() => {});
      }
    });
  }

  /** Whether there is anything to come back to. */
  get worked() {
    return this.state.history.length > 1 || Object.keys(this.state.results).length > 0;
  }

  /** Whether closing would lose what is in no file. */
  get unsaved() {
    const { inFile, state: { now } } = this;
    return !inFile || now.marks !== inFile.marks || now.uncertain !== inFile.uncertain ||
      now.confirmed !== inFile.confirmed || now.ends !== inFile.ends;
  }

  /**
   * Whether the steps are kept now.
   * @param {string} [id] other than the case's, for steps that are to stay when others take their place
   */
  keep(id) {
    try {
      keepDraft(this.state, id);
      return true;
    } catch {
      this.tell.toast("This browser keeps nothing (it is full, or in private mode): save the marks as a file.");
      return false;
    }
  }

  /**
   * What becomes of the open case when another one comes; nothing if it is not to come.
   * @returns {Promise<string>} keep, discard or nothing
   */
  async leave(canKeep = true) {
    if (!this.state.case) return "discard";
    // Shapes are worth coming back to even where all marks are in a file.
    if (!this.unsaved) return canKeep && this.worked ? "keep" : "discard";
    const dialog = dialogOf("leave");
    byId("leave-name").textContent = this.state.case.name || "This case";
    byId("leave-keep").hidden = !canKeep;
    dialog.returnValue = "";
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
    return dialog.returnValue;
  }

  /**
   * Whether the case is open now.
   * @param {() => Promise<Case>} ask
   */
  async open(ask) {
    const fate = await this.leave();
    if (!fate) return false;
    const error = await this.replace(ask, fate);
    if (error) this.tell.toast(messageOf(error));
    return !error;
  }

  /**
   * The error, if there is one.
   * @type {(ask: () => Promise<Case>, fate: string) => Promise<Error | null>}
   */
  async replace(ask, fate) {
    const { state } = this;
    const { now: left } = state;
    this.tell.status("opening…");
    try {
      this.keep();
      const description = await ask();
      const old = state.case?.id;
      if (old && this.work.running) api.cancel(old).catch(() => {});
      // Nobody was asked about what was edited since.
      const edited = state.now !== left && this.unsaved;
      clearTimeout(this.timer);
      this.keep();
      state.load(description);
      this.inFile = state.now;
      await hold(description.id);
      if (old && old !== description.id && fate === "discard" && !edited) this.forget(old);
      if (edited) this.tell.toast("What you changed while this was being opened is kept: Resume… offers it.");
      this.tell.status(`${counted(state.paired().length)} marked`);
      await this.showKept();
      return null;
    } catch (error) {
      this.tell.status("");
      return error instanceof Error ? error : new Error(messageOf(error));
    }
  }

  /**
   * Nothing of a case stays, here or at the service.
   * @param {string} id
   */
  forget(id) {
    dropDraft(id);
    api.close(id).catch(() => {});
  }

  /** The user closes the case. */
  async close() {
    if (await this.leave(false) !== "discard") return;
    const error = await this.replace(api.openFirst, "discard");
    if (error) this.tell.toast(messageOf(error));
  }

  /** Kept work that is not open: a button, and the list. */
  async showKept() {
    const drafts = await freeDrafts();
    byId("resume-open").hidden = !drafts.length;
    const rows = byId("drafts");
    rows.replaceChildren();
    for (const draft of drafts) {
      const row = document.createElement("tr");
      const changes = draft.steps.length - 1;
      const words = `${changes} ${changes === 1 ? "change" : "changes"}, ${new Date(draft.at).toLocaleString()}`;
      for (const text of [draft.name || "without a name", words]) row.insertCell().textContent = text;
      /** @type {(label: string, action: () => void) => void} */
      const button = (label, action) => {
        const made = Object.assign(document.createElement("button"), { textContent: label });
        made.addEventListener("click", action);
        row.insertCell().append(made);
      };
      button("Resume", () => this.resume(draft.id));
      button("Discard", async () => {
        if (await this.stillFree(draft.id)) this.forget(draft.id);
        this.showKept().then(() => rows.children.length || dialogOf("resume").close());
      });
      rows.append(row);
    }
    return drafts;
  }

  /** Offers what was kept, if there is any. */
  async offer() {
    byId("resume-error").textContent = "";
    if ((await this.showKept()).length) dialogOf("resume").showModal();
  }

  /**
   * A draft as it is now; none, which is told, if another window has taken it since it was offered.
   * @param {string} id
   */
  async stillFree(id) {
    const draft = (await this.showKept()).find((kept) => kept.id === id);
    byId("resume-error").textContent = draft ? "" : "Another window has opened or discarded this.";
    return draft;
  }

  /** @param {string} id */
  async resume(id) {
    const { state } = this;
    const draft = await this.stillFree(id);
    if (!draft) return;
    dialogOf("resume").close();
    const fate = await this.leave();
    if (!fate) return;
    const error = await this.replace(() => api.reopen(draft.id), fate);
    if (error && !(error instanceof api.Gone && state.case?.films === draft.films)) {
      const reason = error instanceof api.Gone
        ? "the service no longer has the films. Open them again, and the marks can be resumed."
        : messageOf(error);
      byId("resume-error").textContent = `${draft.name || "Its films"}: ${reason}`;
      return dialogOf("resume").showModal();
    }
    // The same films, opened anew: the steps belong to them as well, and those that are there make room.
    if (error && fate === "keep" && !this.keep(`${state.opened.id}-${Date.now()}`)) return;
    state.resume(draft.steps.map((step) => ({ ...step, chosen: new Set(step.chosen) })), draft.position);
    this.inFile = null;
    if (error && this.keep()) dropDraft(draft.id);
    this.tell.status("resumed");
    await this.showKept();
    try {
      await this.work.send();
      await this.work.reconstruct(state.sorted(state.opened.made));
    } catch (failure) {
      this.tell.toast(messageOf(failure));
    }
  }
}
