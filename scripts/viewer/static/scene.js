// The reconstructed spine in 3D. Draws only when something has changed.

import * as THREE from "/static/vendor/three.module.min.js";
import { filmUrl } from "./api.js";
import { within } from "./dom.js";
import { filmCorners } from "./geometry.js";
import { VIEWS } from "./levels.js";
import { addControls } from "./scenecontrol.js";
import { SceneLines } from "./scenelines.js";
import { drawNames } from "./scenenames.js";
import { faded, statusColour } from "./signs.js";

/** @import { State } from "./state.js" */

/** @typedef {[azimuth: number, elevation: number, roll: number]} Angles degrees */

/** @type {Record<string, Angles>} */
export const PRESETS = { ap: [0, 0, 0], lat: [90, 0, 0], top: [0, 90, 0], side60: [60, 0, 0] };

export class Scene {
  /**
   * @param {HTMLElement} section
   * @param {HTMLElement} canvas
   * @param {HTMLElement} names
   * @param {State} state
   */
  constructor(section, canvas, names, state) {
    this.section = section;
    this.canvas = canvas;
    this.names = names;
    this.state = state;
    this.azimuth = 35;
    this.elevation = 10;
    this.roll = 0;
    this.opacity = 1;
    this.spread = 0;
    this.named =
      this.isolated =
      this.framed =
      this.asked =
        false;
    this.onTurned = () => {};
    /** @type {Map<string, { mesh: any, key: string }>} by level */
    this.meshes = new Map();
    /** @type {Map<string, { mesh: any, key: string }>} by level, as they were before their last correction */
    this.before = new Map();
    /** @type {any[]} */
    this.films = [];
    /** @type {Map<ViewName, any>} of the films, while they hang */
    this.pictures = new Map();
    this.hung = false;
    /** Where the films hang, in one text. */
    this.places = "";
    this.root = new THREE.Scene();
    this.lines = new SceneLines(this.root, state);
    this.camera = new THREE.OrthographicCamera();
    this.root.add(new THREE.HemisphereLight(0xffffff, 0x445066, 1.1));
    this.light = new THREE.DirectionalLight(0xffffff, 2.2);
    this.root.add(this.light, this.light.target);
    this.centre = new THREE.Vector3();
    this.offset = new THREE.Vector2();
    this.size = 300;
    /** Across the patient, mm; and the height of the picture in which all is in sight. */
    this.across = 0;
    this.whole = 300;
    this.scale = 1;
    this.start();
    new ResizeObserver(() => this.ask()).observe(canvas);
    addControls(this);
    state.onChange((what) => {
      if (what === "case") this.clear();
      this.ask();
    });
  }

  start() {
    try {
      this.renderer = new THREE.WebGLRenderer({ canvas: this.canvas, antialias: true, preserveDrawingBuffer: true });
    } catch {
      this.renderer = null;
      within(this.section, "#scene-empty").textContent =
        "This browser has no WebGL: the 3D picture cannot be shown. Everything else works.";
      return;
    }
    this.renderer.setClearColor(0x0c0e12);
    this.canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
    this.canvas.addEventListener("webglcontextrestored", () => this.ask());
  }

  /** @type {(level: string, key: string, surface: Surface) => void} */
  put(level, key, { positions, indices }) {
    const known = this.meshes.get(level);
    if (known && known.key === this.state.made.before[level]?.key) this.keep(level, known);
    else this.drop(level);
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(positions, 3));
    geometry.setIndex(new THREE.BufferAttribute(indices, 1));
    geometry.computeVertexNormals();
    geometry.computeBoundingBox();
    const material = new THREE.MeshStandardMaterial({
      color: this.state.colours[level],
      roughness: 0.65,
      metalness: 0,
    });
    const mesh = new THREE.Mesh(geometry, material);
    mesh.name = level;
    this.root.add(mesh);
    this.meshes.set(level, { mesh, key });
    if (this.meshes.size === 1 || !this.framed) this.fit();
    this.ask();
  }

  /**
   * The surface stays as a grey net, to compare the corrected one with.
   * @type {(level: string, known: { mesh: any, key: string }) => void}
   */
  keep(level, known) {
    const { mesh } = known;
    this.forget(this.before, level);
    mesh.material.dispose();
    mesh.material = new THREE.MeshBasicMaterial({ color: 0xd8dde6, wireframe: true, transparent: true, opacity: 0.12 });
    this.before.set(level, known);
    this.meshes.delete(level);
  }

  /** @param {string} level */
  drop(level) {
    this.forget(this.meshes, level);
    this.forget(this.before, level);
  }

  /** @type {(map: Map<string, { mesh: any }>, level: string) => void} */
  forget(map, level) {
    const mesh = map.get(level)?.mesh;
    if (!mesh) return;
    this.root.remove(mesh);
    mesh.geometry.dispose();
    mesh.material.dispose();
    map.delete(level);
    this.ask();
  }

  clear() {
    for (const level of [...this.meshes.keys()]) this.drop(level);
    this.forgetFilms();
    this.framed = false;
  }

  /**
   * Both films behind the spine, where an orthographic look along their beam lays the spine over its own shadow.
   * @param {boolean} shown
   */
  hang(shown) {
    this.hung = shown;
    this.ask();
  }

  takeDown() {
    for (const film of this.films) {
      this.root.remove(film);
      film.geometry.dispose();
      film.material.dispose();
    }
    this.films = [];
    this.places = "";
  }

  /** Neither films nor pictures of a case stay. */
  forgetFilms() {
    this.takeDown();
    for (const picture of this.pictures.values()) picture.dispose();
    this.pictures.clear();
  }

  /** The films, if they are wanted, hang where the geometry has them now: a correction can change it. */
  hangFilms() {
    if (!this.hung || !this.state.case) {
      if (this.pictures.size) this.forgetFilms();
      return;
    }
    const { id, geometry: known, views } = this.state.case;
    const places = JSON.stringify([id, known, this.centre.toArray(), this.size]);
    if (places === this.places) return;
    this.takeDown();
    this.places = places;
    for (const name of VIEWS) {
      const view = known[name];
      const back = new THREE.Vector3(...view.beam_direction).multiplyScalar(this.size / 4);
      const corners = filmCorners(view, views[name].shape, this.centre.toArray());
      const geometry = new THREE.BufferGeometry();
      geometry.setAttribute(
        "position",
        new THREE.Float32BufferAttribute(corners.flatMap((c) => new THREE.Vector3(...c).add(back).toArray()), 3),
      );
      geometry.setAttribute("uv", new THREE.Float32BufferAttribute([0, 1, 1, 1, 0, 0, 1, 0], 2));
      geometry.setIndex([0, 2, 1, 1, 2, 3]);
      const map = this.picture(id, name);
      const film = new THREE.Mesh(
        geometry,
        new THREE.MeshBasicMaterial({ map, side: THREE.DoubleSide, transparent: true, opacity: 0.85 }),
      );
      this.films.push(film);
      this.root.add(film);
    }
  }

  /** @type {(id: string, name: ViewName) => any} */
  picture(id, name) {
    const known = this.pictures.get(name);
    if (known) return known;
    const picture = new THREE.TextureLoader().load(filmUrl(id, name), () => this.ask());
    picture.colorSpace = THREE.SRGBColorSpace;
    this.pictures.set(name, picture);
    return picture;
  }

  fit() {
    const box = new THREE.Box3();
    for (const { mesh } of this.meshes.values()) {
      if (mesh.visible) box.union(mesh.geometry.boundingBox.clone().translate(mesh.position));
    }
    if (box.isEmpty()) return;
    box.getCenter(this.centre);
    const sides = box.getSize(new THREE.Vector3());
    this.size = Math.max(sides.length() * 1.02, 60);
    this.across = Math.hypot(sides.x, sides.y) * 1.02;
    this.scale = 1;
    this.offset.set(0, 0);
    this.ask();
  }

  /**
   * Pull the vertebrae apart by some mm each, and step back so that all stay in sight.
   * @param {number} spread
   */
  explode(spread) {
    this.spread = spread;
    this.styleAll();
    this.fit();
  }

  /**
   * Azimuth 0 is from the front, 90 from the patient's left; elevation 90 from above. Degrees.
   * @type {(azimuth: number, elevation: number, roll?: number) => void}
   */
  view(azimuth, elevation, roll = this.roll) {
    /** @param {number} angle */
    const wrap = (angle) => ((((angle + 180) % 360) + 360) % 360) - 180;
    this.azimuth = wrap(azimuth);
    this.elevation = Math.min(Math.max(elevation, -90), 90);
    this.roll = wrap(roll);
    this.onTurned();
    this.ask();
  }

  ask() {
    if (this.asked || !this.renderer) return;
    this.asked = true;
    requestAnimationFrame(() => {
      this.asked = false;
      this.draw();
    });
  }

  draw() {
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (!width || !height) return;
    within(this.section, "#scene-empty").hidden = this.meshes.size > 0;
    const ratio = Math.min(window.devicePixelRatio, 2);
    this.renderer.setPixelRatio(ratio);
    this.renderer.setSize(width, height, false);
    this.hangFilms();
    this.aim(width, height);
    const levels = this.styleAll();
    this.lines.update(this.meshes);
    this.renderer.render(this.root, this.camera);
    drawNames(this, levels, width, height);
  }

  styleAll() {
    const levels = this.state.sorted([...this.meshes.keys()]);
    levels.forEach((level, index) => {
      this.style(level, this.meshes.get(level)?.mesh, index - (levels.length - 1) / 2);
    });
    return levels;
  }

  /** @type {(width: number, height: number) => void} */
  aim(width, height) {
    const [a, e, r] = [this.azimuth, this.elevation, this.roll].map(THREE.MathUtils.degToRad);
    // RAS: the patient's left is -x, front +y, head +z.
    const back = new THREE.Vector3(-Math.sin(a) * Math.cos(e), Math.cos(a) * Math.cos(e), Math.sin(e));
    const up = new THREE.Vector3(Math.sin(a) * Math.sin(e), -Math.cos(a) * Math.sin(e), Math.cos(e)).applyAxisAngle(
      back,
      r,
    );
    this.whole = Math.max(this.size, (this.across * height) / width);
    const tall = this.whole / this.scale;
    const wide = (tall * width) / height;
    const right = new THREE.Vector3().crossVectors(up, back);
    const target = this.centre.clone().addScaledVector(right, this.offset.x).addScaledVector(up, this.offset.y);
    Object.assign(this.camera, {
      left: -wide / 2,
      right: wide / 2,
      top: tall / 2,
      bottom: -tall / 2,
      near: 1,
      far: 6000,
    });
    this.camera.position.copy(target).addScaledVector(back, 3000);
    this.camera.up.copy(up);
    this.camera.lookAt(target);
    this.camera.updateProjectionMatrix();
    this.light.position.copy(this.camera.position).addScaledVector(up, 900).addScaledVector(right, -700);
    this.light.target.position.copy(target);
    this.light.target.updateMatrixWorld();
  }

  /** @type {(level: string, mesh: any, place: number) => void} */
  style(level, mesh, place) {
    const selected = level === this.state.selected;
    mesh.visible = !this.state.hidden.has(level) && (!this.isolated || !this.state.selected || selected);
    mesh.position.set(0, 0, -place * this.spread);
    const status = this.state.status(level);
    const pale = faded(status);
    const opacity = pale ? Math.min(this.opacity, 0.4) : this.opacity;
    mesh.material.transparent = opacity < 1;
    mesh.material.opacity = opacity;
    mesh.material.depthWrite = opacity >= 1;
    mesh.material.color.set(pale ? statusColour(status) : this.state.colours[level]);
    mesh.material.emissive.set(selected ? 0x1c4a7a : 0x000000);
    const before = this.before.get(level);
    if (before) {
      const current = before.key === this.state.made.before[level]?.key;
      before.mesh.visible = mesh.visible && this.state.comparing && current;
      before.mesh.position.copy(mesh.position);
    }
  }
}
