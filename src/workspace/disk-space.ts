import { statfs } from "node:fs/promises";

export interface DiskSpace {
  readonly freeBytes: number;
  readonly totalBytes: number;
  /** What has to stay free: 1 GB, or 2 % of a disk where that is more. */
  readonly floorBytes: number;
  /** Less than that is free: whatever writes should stop. */
  readonly low: boolean;
}

/** Free space for unprivileged users of the file system that holds `path`. */
export async function readDiskSpace(path: string): Promise<DiskSpace> {
  const { bavail, blocks, bsize } = await statfs(path);
  return judgeDiskSpace(bavail * bsize, blocks * bsize);
}

/** The floor, as a pure function. */
export function judgeDiskSpace(freeBytes: number, totalBytes: number): DiskSpace {
  const floorBytes = Math.max(FLOOR_BYTES, totalBytes * FLOOR_SHARE);
  return { freeBytes, totalBytes, floorBytes, low: freeBytes < floorBytes };
}

const FLOOR_BYTES = 1e9;
const FLOOR_SHARE = 0.02;
