// The service's routes, one function each. Errors are Errors with the service's one line.

/** The service has no such thing (any more). */
export class Gone extends Error {}

/** @param {Response} response */
async function checked(response) {
  if (response.ok) return response;
  let reason = `the service answered ${response.status}`;
  try {
    reason = (await response.json()).error ?? reason;
  } catch {
    // no JSON: the status has to do
  }
  throw response.status === 404 ? new Gone(reason) : new Error(reason);
}

/** @type {(path: string, options?: RequestInit) => Promise<Response>} */
async function request(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Error("the service does not answer; is it still running?");
  }
  return checked(response);
}

/** @type {(path: string, options?: RequestInit) => Promise<any>} */
const json = async (path, options) => (await request(path, options)).json();

/** @type {() => Promise<Case>} */
export const openFirst = () => json("/api/first", { method: "POST" });
/** @type {() => Promise<Case>} */
export const openSample = () => json("/api/sample", { method: "POST" });
/** @type {(form: FormData) => Promise<Case>} */
export const openFiles = (form) => json("/api/cases", { method: "POST", body: form });
/** @type {(id: string, view: ViewName) => string} */
export const filmUrl = (id, view) => `/api/cases/${id}/${view}.png`;
/** @type {(id: string) => Promise<Response>} */
export const close = (id) => request(`/api/cases/${id}`, { method: "DELETE" });
/** @type {(id: string, marks: { views: unknown, levels_uncertain: boolean, levels_confirmed: boolean, end_vertebrae: readonly EndVertebrae[] }) => Promise<Following>} */
export const putMarks = (id, marks) => json(`/api/cases/${id}/marks`, { method: "PUT", body: JSON.stringify(marks) });
/** @type {(id: string) => Promise<Case>} */
export const reopen = (id) => json(`/api/cases/${id}`);
/** @type {(id: string) => Promise<unknown>} */
export const cancel = (id) => json(`/api/cases/${id}/reconstruct`, { method: "DELETE" });
/** @type {(id: string, levels: string[]) => Promise<Measurements>} */
export const measurements = (id, levels) => json(`/api/cases/${id}/measurements?levels=${levels.join(",")}`);
/** @type {(id: string, kind: string, levels: string[]) => string} */
export const exportUrl = (id, kind, levels) => `/api/cases/${id}/export/${kind}?levels=${levels.join(",")}`;
/** @type {(id: string) => string} */
export const sessionUrl = (id) => `/api/cases/${id}/session`;

/** @param {string} url */
export async function download(url) {
  const response = await request(url);
  const name = /filename="?([^";]+)/.exec(response.headers.get("content-disposition") ?? "")?.[1] ?? "export";
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await response.blob());
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/**
 * Positions (mm, RAS) and triangle indices of one vertebra.
 * @type {(id: string, level: string, key: string) => Promise<Surface>}
 */
export async function mesh(id, level, key) {
  const buffer = await (await request(`/api/cases/${id}/mesh/${level}?key=${key}`)).arrayBuffer();
  const [vertices, triangles] = new Uint32Array(buffer, 0, 2);
  return {
    positions: new Float32Array(buffer, 8, vertices * 3),
    indices: new Uint32Array(buffer, 8 + vertices * 12, triangles * 3),
  };
}

/**
 * Calls onResult for each vertebra as it is done, onWaiting as its turn comes nearer and when it is computed.
 * @type {(
 *   id: string,
 *   levels: string[],
 *   onResult: (result: Result) => void,
 *   onWaiting: (waiting: Waiting) => void,
 * ) => Promise<void>}
 */
export async function reconstruct(id, levels, onResult, onWaiting) {
  const response = await request(`/api/cases/${id}/reconstruct`, { method: "POST", body: JSON.stringify({ levels }) });
  if (!response.body) throw new Error("the service's answer is empty");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const lines = (rest + (value ?? "")).split("\n");
    rest = lines.pop() ?? "";
    for (const line of lines) {
      if (!line) continue;
      const told = JSON.parse(line);
      if ("waiting" in told) onWaiting(told);
      else onResult(told);
    }
    if (done) return;
  }
}
