// Keeps the surfaces in the 3D picture to what is shown of each level.

import * as api from "./api.js";
import { messageOf } from "./dom.js";

/** @import { State } from "./state.js" */
/** @import { Scene } from "./scene.js" */
/** @import { Work } from "./work.js" */

/** @type {(state: State, work: Work, scene: Scene, onError: (text: string) => void) => void} */
export function keepSurfaces(state, work, scene, onError) {
  /** @type {Set<string>} keys on their way */
  const coming = new Set();
  /** @type {(id: string, level: string, key: string) => Promise<void>} */
  async function fetchOne(id, level, key) {
    coming.add(key);
    try {
      const surface = await api.mesh(id, level, key);
      if (state.case?.id === id && state.results[level]?.key === key) scene.put(level, key, surface);
    } catch (error) {
      if (state.case?.id !== id) return;
      if (error instanceof api.Gone) {
        state.made.lose(level, key);
        state.changed("results");
        return onError(`${level}: this earlier shape is no longer kept; press Reconstruct`);
      }
      onError(messageOf(error));
    } finally {
      coming.delete(key);
    }
    if (!coming.size && !work.running && !scene.framed && scene.meshes.size) {
      scene.fit();
      scene.framed = true;
    }
  }
  state.onChange((what) => {
    if (!state.case || (what !== "marks" && what !== "results" && what !== "warnings")) return;
    for (const level of [...scene.meshes.keys()]) if (!state.results[level]) scene.drop(level);
    for (const [level, { key }] of Object.entries(state.results)) {
      if (scene.meshes.get(level)?.key !== key && !coming.has(key)) fetchOne(state.case.id, level, key);
    }
  });
}
