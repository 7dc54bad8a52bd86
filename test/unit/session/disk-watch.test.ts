import { describe, expect, it } from "vitest";
import { Deferred } from "../../../src/common/lifecycle.ts";
import { within } from "../../../src/common/time.ts";
import { watchDiskSpace } from "../../../src/session/disk-watch.ts";
import { type DiskSpace, judgeDiskSpace } from "../../../src/workspace/disk-space.ts";

const GB = 1e9;

/** Free space, look by look; resolves to what was reported, or undefined once all of it was seen in vain. */
async function watchLooks(free: number[], totalBytes = 20 * GB): Promise<DiskSpace | undefined> {
  const reported = new Deferred<DiskSpace | undefined>();
  const looks = [...free];
  const read = () => {
    const next = looks.shift();
    if (next === undefined) reported.resolve(undefined);
    return Promise.resolve(judgeDiskSpace(next ?? free.at(-1) ?? 0, totalBytes));
  };
  const watch = watchDiskSpace(read, reported.resolve, 1);
  try {
    return await reported.promise;
  } finally {
    watch[Symbol.dispose]();
  }
}

describe("a disk that is filled while a cell runs", () => {
  it("is reported when less than 1 GB is free", async () => {
    expect(await watchLooks([5 * GB, 2 * GB, 0.9 * GB])).toMatchObject({ freeBytes: 0.9 * GB, floorBytes: GB });
  });

  it("is reported when less than 2 % of a large one is free", async () => {
    expect(await watchLooks([100 * GB, 19 * GB], 1000 * GB)).toMatchObject({ floorBytes: 20 * GB });
  });

  it("is reported when it was low before and becomes less", async () => {
    expect(await watchLooks([0.5 * GB, 0.5 * GB, 0.4 * GB])).toMatchObject({ freeBytes: 0.4 * GB });
  });
});

describe("a disk that is not the cell's doing", () => {
  it("may have been low before", async () => {
    expect(await watchLooks([0.5 * GB, 0.5 * GB, 0.495 * GB, 0.6 * GB])).toBeUndefined();
  });

  it("may be one that can't be asked", async () => {
    let asked = 0;
    const failing = () => Promise.reject(new Error(`look ${(asked += 1)}`));
    const watch = watchDiskSpace(failing, () => expect.unreachable(), 1);
    await expect.poll(() => asked).toBeGreaterThan(2);
    watch[Symbol.dispose]();
  });

  it("is looked at no more when the cell has ended, nor asked twice while it hangs", async () => {
    let asked = 0;
    const hanging = () => {
      asked += 1;
      return new Promise<never>(() => undefined);
    };
    const watch = watchDiskSpace(hanging, () => expect.unreachable(), 1);
    await within(20, new Promise(() => undefined));
    watch[Symbol.dispose]();
    expect(asked).toBe(1);
  });
});
