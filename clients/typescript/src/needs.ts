/** Says what to install where an adapter's library is missing. */

/**
 * Loads the library, which bundlers can follow; where it is not there, the process ends with what to install. Not awaited: a module that awaits
 * can't be bundled as CommonJS.
 */
export function needs(adapter: string, library: string, load: () => Promise<unknown>): void {
  load().catch((error: unknown) => {
    const { code, message = "" } = error as { code?: string; message?: string };
    const isMissing = code === "ERR_MODULE_NOT_FOUND" || code === "MODULE_NOT_FOUND";
    // Another fault of the library shows where it is used.
    if (isMissing && message.includes(library)) throw new Error(`hookonce/${adapter} needs ${library}: npm install ${library}`, { cause: error });
  });
}
