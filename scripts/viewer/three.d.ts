// The vendored build of three.js comes without types: what the page uses of it is not checked.
// deno-lint-ignore-file no-explicit-any
export const Box3: any;
export const BufferAttribute: any;
export const BufferGeometry: any;
export const DirectionalLight: any;
export const DoubleSide: any;
export const Float32BufferAttribute: any;
export const HemisphereLight: any;
export const LineBasicMaterial: any;
export const LineSegments: any;
export const MathUtils: any;
export const Mesh: any;
export const MeshBasicMaterial: any;
export const MeshStandardMaterial: any;
export const OrthographicCamera: any;
export const Raycaster: any;
export const SRGBColorSpace: any;
export const Scene: any;
export const TextureLoader: any;
export const Vector2: any;
export const Vector3: any;
export const WebGLRenderer: any;
