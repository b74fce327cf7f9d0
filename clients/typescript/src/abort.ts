/** Waiting for one thing, unless a signal is given before. */

export const ABORTED = Symbol("aborted");

/** What the promise gives, or `ABORTED` where the signal is given first. */
export async function orAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T | typeof ABORTED> {
  if (signal === undefined) return promise;
  let end = () => {};
  const aborted = new Promise<typeof ABORTED>((resolve) => {
    end = () => resolve(ABORTED);
    if (signal.aborted) end();
    else signal.addEventListener("abort", end);
  });
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener("abort", end);
  }
}
