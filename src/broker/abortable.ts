/** The promise's outcome, or `toError()` as soon as `signal` aborts. The work behind the promise goes on. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal, toError: () => Error): Promise<T> {
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(toError());
    if (signal.aborted) onAbort();
    signal.addEventListener("abort", onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener("abort", onAbort));
  });
}
