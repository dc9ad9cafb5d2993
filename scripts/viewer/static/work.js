// What the page asks of the service: marks first, then what follows from them.

import * as api from "./api.js";
import { messageOf } from "./dom.js";
import { CONFIRM } from "./state.js";
import { counted } from "./tables.js";

/** @import { State } from "./state.js" */

// Where every mark moves all, more than these wait for the button.
const MOST_AT_ONCE = 6;

export class Work {
  /**
   * @param {State} state
   * @param {{ status: (text: string) => void, toast: (text: string) => void, progress: (share: number | null) => void }} tell
   */
  constructor(state, tell) {
    this.state = state;
    this.tell = tell;
    this.running = this.again = this.measuring = false;
    /** @type {Set<string>} asked for, and not there yet */
    this.wanted = new Set();
    /** Why there are no measurements, if they were asked for. */
    this.measureError = "";
    /** @type {Promise<void>} */
    this.sending = Promise.resolve();
    /** @type {ReturnType<typeof setTimeout> | undefined} */
    this.timer = undefined;
  }

  /** The service gets the marks as they are; one message at a time, the newest last. */
  send() {
    const { state } = this;
    const { id } = state.opened;
    this.sending = this.sending.catch(() => {}).then(async () => {
      const { now, saved } = state;
      const same = saved && now.marks === saved.marks && now.uncertain === saved.uncertain &&
        now.confirmed === saved.confirmed && now.ends === saved.ends;
      if (state.case?.id !== id || same) return;
      const { marks, uncertain, confirmed, ends } = now;
      try {
        const answer = await api.putMarks(id, {
          views: state.views(),
          levels_uncertain: uncertain,
          levels_confirmed: confirmed,
          end_vertebrae: ends,
        });
        if (state.case?.id !== id) return;
        state.saved = now;
        state.case = { ...state.case, ...answer };
        state.made.tell(marks, answer);
      } catch (error) {
        // Marks that the service does not take: nothing is made from them.
        if (state.case?.id === id) state.made.tell(marks, { keys: {}, spine: null });
        throw error;
      } finally {
        state.changed("warnings");
      }
    });
    return this.sending;
  }

  /** After an edit, as soon as nothing more follows. */
  settleSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.state.dragging || this.settle(), 250);
  }

  /**
   * Marks are sent, and what is outdated is made again if it is little.
   * @returns {Promise<void>}
   */
  async settle() {
    clearTimeout(this.timer);
    if (!this.state.case) return;
    try {
      // Also marks that were changed while these were on their way: nothing is asked of those that are no longer so.
      for (let sent = this.send(); await sent, sent !== this.sending;) sent = this.sending;
    } catch (error) {
      return this.tell.toast(messageOf(error));
    }
    if (this.running) {
      this.again = true;
      return;
    }
    const { state } = this;
    const asked = [...this.wanted].filter((level) => state.chosen.has(level) && !state.results[level]);
    const old = state.sorted(new Set([...state.outdated(), ...asked]));
    this.wanted.clear();
    // The one at hand comes first.
    old.sort((a, b) => Number(b === state.selected) - Number(a === state.selected));
    // After a word about the levels the shapes are the same, and come at once.
    const little = !state.allMove || old.length <= MOST_AT_ONCE || state.now.what === CONFIRM;
    if (old.length && little) return this.reconstruct(old);
    await this.measure();
    if (old.length) this.tell.status(`${old.length} outdated: reconstruct`);
  }

  /**
   * @param {string[]} levels
   * @returns {Promise<void>}
   */
  async reconstruct(levels) {
    const { state } = this;
    if (this.running || !state.case || !levels.length) return;
    this.running = true;
    const { id } = state.case;
    this.wanted = new Set(levels);
    this.tell.progress(0);
    const started = performance.now();
    const errors = new Set();
    let cancelled = false;
    try {
      await this.send();
      await api.reconstruct(id, levels, (result) => {
        if (state.case?.id !== id) return;
        this.tell.progress(result.done / result.total);
        if (result.cancelled) {
          this.wanted.clear();
          cancelled = true;
          return this.tell.status(`cancelled after ${result.done} of ${result.total}`);
        }
        this.tell.status(`${result.level}, ${result.done} of ${result.total}`);
        state.made.accept(result, state.marks);
        if (state.results[result.level]?.key === result.key || result.error) this.wanted.delete(result.level);
        if (result.error && state.status(result.level).use === "failed") errors.add(result.error);
        state.changed("results");
      }, ({ waiting, level, number, total }) => {
        if (state.case?.id !== id) return;
        this.tell.status(
          waiting ? `${waiting} before ${level} in the queue` : `computing ${level}, ${number} of ${total}`,
        );
      });
      const seconds = ((performance.now() - started) / 1000).toFixed(1);
      if (errors.size) this.tell.toast([...errors].join("\n"));
      else if (state.case?.id === id && !cancelled) this.tell.status(`${counted(levels.length)} in ${seconds} s`);
    } catch (error) {
      if (state.case?.id === id) {
        this.tell.status("");
        this.tell.toast(messageOf(error));
        this.again = false;
        this.wanted.clear();
      }
    } finally {
      this.running = false;
      this.tell.progress(null);
    }
    // What was asked for of a case is not computed for the next one.
    if (state.case?.id !== id) this.wanted.clear();
    if (this.again || this.wanted.size) {
      this.again = false;
      return this.settle();
    }
    await this.measure();
  }

  /** What is ticked and current is measured and judged together, as it is exported. */
  async measure() {
    const { state } = this;
    const { id } = state.opened;
    const levels = state.sorted(Object.keys(state.fresh));
    const { ends } = state;
    if (this.measuring || !levels.length || state.anglesNow) {
      return state.changed("results");
    }
    this.measuring = true;
    this.measureError = "";
    state.changed("results");
    try {
      const measured = await api.measurements(id, levels);
      if (state.case?.id === id) state.made.keepMeasured(measured);
    } catch (error) {
      if (state.case?.id === id) this.measureError = messageOf(error);
    } finally {
      this.measuring = false;
      state.changed("results");
    }
    // Something changed meanwhile: what is there now is asked for.
    const now = state.sorted(Object.keys(state.fresh));
    const late = !this.running && !state.anglesNow;
    if (late && (String(now) !== String(levels) || ends !== state.ends)) await this.measure();
  }
}
