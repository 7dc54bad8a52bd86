import type { DiskSpace } from "../workspace/disk-space.ts";

/**
 * Looks at the host's disk while a cell runs, and calls `onLow` once when too little is free and it became less since
 * the first look, 25 ms after the cell began: a disk that was full before is not the cell's doing. Keeps no process alive.
 */
export function watchDiskSpace(
  read: () => Promise<DiskSpace>,
  onLow: (space: DiskSpace) => void,
  intervalMs = INTERVAL_MS,
): Disposable {
  let freeBefore: number | undefined;
  let reading = false;
  let timer: NodeJS.Timeout;
  const look = async () => {
    if (reading) return; // a file system that hangs is asked once
    reading = true;
    const space = await read().catch(() => undefined);
    reading = false;
    if (space === undefined) return;
    freeBefore ??= space.freeBytes;
    if (!space.low || space.freeBytes > freeBefore - TOLERATED_BYTES) return;
    clearTimeout(timer);
    onLow(space);
  };
  // The file system makes no event of it.
  const lookAfter = (ms: number) => {
    timer = setTimeout(() => {
      lookAfter(intervalMs);
      void look();
    }, ms).unref();
  };
  lookAfter(intervalMs / 10); // most cells are over by then
  return { [Symbol.dispose]: () => clearTimeout(timer) };
}

/** At 2 GB/s half of the floor. */
const INTERVAL_MS = 250;
/** What others write in the meantime. */
const TOLERATED_BYTES = 16e6;
