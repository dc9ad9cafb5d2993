// The 3D view turned, shifted and enlarged, by mouse and keyboard; a vertebra selected in it.

import * as THREE from "/static/vendor/three.module.min.js";

/** @import { Scene } from "./scene.js" */

// The wheel brings no vertebra nearer than this height of the picture: most of a vertebra stays in sight, and the
// camera is never within one.
const LEAST_HEIGHT_MM = 50;

/** @param {Scene} scene */
export function addControls(scene) {
  const { canvas } = scene;
  canvas.addEventListener("pointerdown", (event) => turn(scene, event));
  canvas.addEventListener("wheel", (event) => zoom(scene, event), { passive: false });
  canvas.addEventListener("keydown", (event) => key(scene, event));
}

/**
 * @param {Scene} scene
 * @param {PointerEvent} event
 */
function turn(scene, event) {
  const start = {
    x: event.clientX,
    y: event.clientY,
    azimuth: scene.azimuth,
    elevation: scene.elevation,
    offset: scene.offset.clone(),
  };
  const panning = event.shiftKey || event.button !== 0;
  let moved = false;
  scene.canvas.setPointerCapture(event.pointerId);
  /** @param {PointerEvent} now */
  const move = (now) => {
    const [dx, dy] = [now.clientX - start.x, now.clientY - start.y];
    moved ||= Math.hypot(dx, dy) > 3;
    if (!moved) return;
    if (panning) {
      const mm = scene.whole / scene.scale / scene.canvas.clientHeight;
      scene.offset.set(start.offset.x - dx * mm, start.offset.y + dy * mm);
      scene.ask();
    } else scene.view(start.azimuth - dx * 0.5, start.elevation + dy * 0.5);
  };
  /** @param {PointerEvent} last */
  const end = (last) => {
    scene.canvas.removeEventListener("pointermove", move);
    scene.canvas.removeEventListener("pointerup", end);
    if (!moved && !panning) scene.state.select(pick(scene, last));
  };
  scene.canvas.addEventListener("pointermove", move);
  scene.canvas.addEventListener("pointerup", end);
}

/**
 * The level in sight at a place of the picture.
 * @param {Scene} scene
 * @param {PointerEvent} event
 * @returns {string | null}
 */
function pick(scene, event) {
  const box = scene.canvas.getBoundingClientRect();
  const at = new THREE.Vector2(
    ((event.clientX - box.left) / box.width) * 2 - 1,
    1 - ((event.clientY - box.top) / box.height) * 2,
  );
  const caster = new THREE.Raycaster();
  caster.setFromCamera(at, scene.camera);
  const seen = [...scene.meshes.values()].map(({ mesh }) => mesh).filter((mesh) => mesh.visible);
  return caster.intersectObjects(seen, false)[0]?.object.name ?? null;
}

/**
 * @param {Scene} scene
 * @param {WheelEvent} event
 */
function zoom(scene, event) {
  event.preventDefault();
  scene.scale = Math.min(Math.max(scene.scale * Math.exp(-event.deltaY * 0.0015), 0.3), scene.whole / LEAST_HEIGHT_MM);
  scene.ask();
}

/**
 * @param {Scene} scene
 * @param {KeyboardEvent} event
 */
function key(scene, event) {
  /** @type {Record<string, [number, number]>} */
  const steps = { ArrowLeft: [-5, 0], ArrowRight: [5, 0], ArrowUp: [0, 5], ArrowDown: [0, -5] };
  const step = steps[event.key];
  if (!step) return;
  event.preventDefault();
  scene.view(scene.azimuth + step[0], scene.elevation + step[1]);
}
