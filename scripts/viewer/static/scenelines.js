// End plates and angles in the 3D picture, as the service measured them: thin lines that go along with each vertebra.

import * as THREE from "/static/vendor/three.module.min.js";

/** @import { State } from "./state.js" */

const PLATE = [1, 1, 1];
const ANGLE = [1, 0.88, 0.54];

export class SceneLines {
  /**
   * @param {any} root the scene that they are part of
   * @param {State} state
   */
  constructor(root, state) {
    this.root = root;
    this.state = state;
    /** @type {Map<string, any>} by level */
    this.lines = new Map();
    /** @type {Measurements | undefined} of which the lines are */
    this.plates = undefined;
    /** @type {Measurements | undefined} */
    this.angles = undefined;
  }

  /**
   * Lines of what is current; those of a vertebra lie where it is drawn.
   * @param {Map<string, { mesh: any }>} meshes by level
   */
  update(meshes) {
    const { measuredNow, anglesNow, platesShown } = this.state;
    if (measuredNow !== this.plates || anglesNow !== this.angles) this.make(measuredNow, anglesNow);
    for (const [level, lines] of this.lines) {
      const mesh = meshes.get(level)?.mesh;
      lines.visible = platesShown && Boolean(mesh?.visible);
      if (mesh) lines.position.copy(mesh.position);
    }
  }

  /** @type {(plates: Measurements | undefined, angles: Measurements | undefined) => void} */
  make(plates, angles) {
    [this.plates, this.angles] = [plates, angles];
    for (const lines of this.lines.values()) {
      this.root.remove(lines);
      lines.geometry.dispose();
      lines.material.dispose();
    }
    this.lines.clear();
    for (const [level, { mm }] of Object.entries(plates?.plates ?? {})) {
      const own = (angles?.curves ?? []).flatMap(({ upper, lower, lines }) =>
        [upper, lower].flatMap((end, i) => (end === level && lines ? [lines.mm[i]] : []))
      );
      const all = [...mm, ...own];
      const colours = all.flatMap((_, i) => [0, 1].flatMap(() => (i < mm.length ? PLATE : ANGLE)));
      const geometry = new THREE.BufferGeometry();
      geometry.setAttribute("position", new THREE.Float32BufferAttribute(all.flat(2), 3));
      geometry.setAttribute("color", new THREE.Float32BufferAttribute(colours, 3));
      // Half of each line runs within the bone: it is drawn over it.
      const material = new THREE.LineBasicMaterial({ vertexColors: true, depthTest: false, transparent: true });
      const lines = new THREE.LineSegments(geometry, material);
      lines.renderOrder = 1;
      this.lines.set(level, lines);
      this.root.add(lines);
    }
  }
}
