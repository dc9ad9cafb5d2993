// The service's routes, one function each. Errors are Errors with the service's one line.

/** The service has no such thing (any more). */
export class Gone extends Error {}

/** The service does not answer. */
export class Silent extends Error {}

const SILENT = "the service does not answer; is it still running? The marks are kept in this browser: Save writes " +
  "them to a file, and Resume… brings them back once the films are open again";

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
    options?.signal?.throwIfAborted();
    throw new Silent(SILENT);
  }
  return checked(response);
}

/** @type {(path: string, options?: RequestInit) => Promise<any>} */
const json = async (path, options) => (await request(path, options)).json();

/** @type {() => Promise<Case>} */
export const openFirst = () => json("/api/first", { method: "POST" });
/** @type {() => Promise<Case>} */
export const openSample = () => json("/api/sample", { method: "POST" });
/** @type {() => Promise<{ id: string, most_files: number }>} */
export const collect = () => json("/api/candidates", { method: "POST" });
/** @type {(id: string, file: string) => string} */
export const candidateUrl = (id, file) => `/api/candidates/${id}/${file}.png`;
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
  give(await response.blob(), name);
}

/**
 * Hands a file to the user.
 * @type {(content: Blob, name: string) => void}
 */
export function give(content, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(content);
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
 * Sends one file, and tells the bytes that have gone.
 * @type {(id: string, file: File, onSent: (bytes: number) => void, signal: AbortSignal) => Promise<Inspected>}
 */
export const addCandidate = (id, file, onSent, signal) =>
  new Promise((resolve, reject) => {
    const form = new FormData();
    form.append("file", file);
    // fetch does not tell how much of a body has gone.
    const sending = new XMLHttpRequest();
    sending.open("POST", `/api/candidates/${id}`);
    sending.upload.addEventListener("progress", (event) => onSent(Math.min(event.loaded, file.size)));
    sending.addEventListener("error", () => reject(new TypeError(SILENT)));
    sending.addEventListener("abort", () => reject(new DOMException("cancelled", "AbortError")));
    sending.addEventListener("load", () => {
      const headers = { "content-type": sending.getResponseHeader("content-type") ?? "" };
      checked(new Response(sending.response, { status: sending.status, headers }))
        .then((answer) => answer.json()).then(resolve, reject);
    });
    signal.addEventListener("abort", () => sending.abort());
    sending.send(form);
  });

/**
 * The case of two chosen films; `onStep` gets each step of it.
 * @type {(id: string, chosen: Choice, onStep: (step: Opening) => void, signal: AbortSignal) => Promise<Case>}
 */
export async function openChosen(id, chosen, onStep, signal) {
  /** @type {Case | undefined} */
  let opened;
  const options = { method: "POST", body: JSON.stringify(chosen), signal };
  for await (const told of lines(`/api/candidates/${id}/case`, options)) {
    if (told.error) throw new Error(told.error);
    if (told.case) opened = told.case;
    else if ("waiting" in told) onStep(told);
  }
  if (!opened) throw new Error("the service's answer is not complete");
  return opened;
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
  const options = { method: "POST", body: JSON.stringify({ levels }) };
  for await (const told of lines(`/api/cases/${id}/reconstruct`, options)) {
    if ("waiting" in told) onWaiting(told);
    else onResult(told);
  }
}

/**
 * The lines of an answer as they come.
 * @type {(path: string, options: RequestInit) => AsyncGenerator<any>}
 */
async function* lines(path, options) {
  const response = await request(path, options);
  if (!response.body) throw new Error("the service's answer is empty");
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    const whole = (rest + (value ?? "")).split("\n");
    rest = whole.pop() ?? "";
    for (const line of whole) {
      if (line) yield JSON.parse(line);
    }
    if (done) return;
  }
}
