// The names of vertebrae in the 3D view.

import * as THREE from "/static/vendor/three.module.min.js";
import { caution, statusColour } from "./signs.js";

/** @import { Scene } from "./scene.js" */

/** Directions of the patient in RAS: left is -x, front +y, head +z; and the letters of each and of its opposite. */
const AXES = [
  { axis: [-1, 0, 0], letters: ["L", "R"] },
  { axis: [0, 1, 0], letters: ["A", "P"] },
  { axis: [0, 0, 1], letters: ["H", "F"] },
];

/**
 * Two letters at the edges, as on films: what of the patient is on the left and on the right of the picture.
 * @param {Scene} scene
 */
function drawSides({ names, camera }) {
  const right = new THREE.Vector3().setFromMatrixColumn(camera.matrixWorld, 0);
  const across = AXES.map(({ axis, letters }) => ({ letters, share: right.dot(new THREE.Vector3(...axis)) }));
  const [{ letters, share }] = across.sort((a, b) => Math.abs(b.share) - Math.abs(a.share));
  for (const side of ["left", "right"]) {
    const there = (share > 0) === (side === "right");
    const letter = Object.assign(document.createElement("b"), { textContent: letters[there ? 0 : 1], className: side });
    letter.setAttribute("aria-hidden", "true");
    names.append(letter);
  }
}

/** @type {(scene: Scene, levels: string[], width: number, height: number) => void} */
export function drawNames(scene, levels, width, height) {
  scene.names.replaceChildren();
  scene.names.style.width = `${width}px`;
  scene.names.style.height = `${height}px`;
  if (levels.length) drawSides(scene);
  for (const level of levels) {
    const status = scene.state.status(level);
    // What is not good is named whether names are wanted or not.
    const use = caution(status);
    if (!scene.named && !use) continue;
    const mesh = scene.meshes.get(level)?.mesh;
    if (!mesh.visible) continue;
    const at = mesh.geometry.boundingBox.getCenter(new THREE.Vector3()).add(mesh.position).project(scene.camera);
    const label = Object.assign(document.createElement("span"), { textContent: level + use });
    label.style.color = use ? statusColour(status) : "";
    label.style.left = `${((at.x + 1) / 2) * width}px`;
    label.style.top = `${((1 - at.y) / 2) * height}px`;
    scene.names.append(label);
  }
}
