// The names of vertebrae in the 3D view.

import * as THREE from "/static/vendor/three.module.min.js";
import { caution, statusColour } from "./signs.js";

/** @import { Scene } from "./scene.js" */

/** @type {(scene: Scene, levels: string[], width: number, height: number) => void} */
export function drawNames(scene, levels, width, height) {
  scene.names.replaceChildren();
  scene.names.style.width = `${width}px`;
  scene.names.style.height = `${height}px`;
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
