import { statfs } from "node:fs/promises";

export interface DiskSpace {
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** Less than 1 GB or 2 % is free: whatever writes should stop. */
  readonly low: boolean;
}

/** Free space for unprivileged users of the file system that holds `path`. */
export async function readDiskSpace(path: string): Promise<DiskSpace> {
  const { bavail, blocks, bsize } = await statfs(path);
  return judgeDiskSpace(bavail * bsize, blocks * bsize);
}

/** The floor, as a pure function. */
export function judgeDiskSpace(freeBytes: number, totalBytes: number): DiskSpace {
  return { freeBytes, totalBytes, low: freeBytes < FLOOR_BYTES || freeBytes < totalBytes * FLOOR_SHARE };
}

const FLOOR_BYTES = 1e9;
const FLOOR_SHARE = 0.02;
