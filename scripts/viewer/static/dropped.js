// Files that were dropped or chosen, folders with all that lies in them.

/**
 * The files of a drop. Has to be called before anything is waited for: afterwards the browser has forgotten them.
 * @param {DataTransfer} dropped
 * @returns {Promise<File[]>}
 */
export async function filesOf(dropped) {
  const found = [...dropped.items].filter((item) => item.kind === "file").map((item) =>
    item.webkitGetAsEntry() ?? item.getAsFile()
  );
  return visible((await Promise.all(found.map(within))).flat());
}

/**
 * Without what systems add to folders.
 * @param {Iterable<File>} files
 */
export const visible = (files) => [...files].filter((file) => !file.name.startsWith("."));

/**
 * @param {FileSystemEntry | File | null} entry
 * @returns {Promise<File[]>}
 */
async function within(entry) {
  if (entry === null) return [];
  if (entry instanceof File) return [entry];
  // Not by their classes, for which not all browsers have names.
  if (entry.isFile) {
    const { file } = /** @type {FileSystemFileEntry} */ (entry);
    return [await new Promise((resolve, reject) => file.call(entry, resolve, reject))];
  }
  const reader = /** @type {FileSystemDirectoryEntry} */ (entry).createReader();
  const files = [];
  for (;;) {
    // A folder comes in parts.
    /** @type {FileSystemEntry[]} */
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) return files;
    for (const inner of part) files.push(...await within(inner));
  }
}
