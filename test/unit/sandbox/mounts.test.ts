import { describe, expect, it } from "vitest";
import { type MountPlan, toMounts, toShieldedPlaces, workspacePathInside } from "../../../src/sandbox/docker/mounts.ts";

const plan: MountPlan = {
  role: "session",
  workspace: { path: "/home/ann/project", key: "k", masked: [], protected: [] },
  extra: [],
  uid: 1000,
  mounted: { type: "host", emptyFile: "/run/user/1000/ipybox/r/s/empty" },
  crossing: {
    type: "socket",
    runDirectory: "/run/user/1000/ipybox/r/s",
    emptyFile: "/run/user/1000/ipybox/r/s/empty",
  },
};

const summary = (changes: Partial<MountPlan>) =>
  toMounts({ ...plan, ...changes }).map((mount) => `${mount.Source} → ${mount.Target} ${mount.ReadOnly ? "ro" : "rw"}`);

describe("where the workspace is inside", () => {
  it.each([
    ["/home/ann/project", 1000],
    ["/tmp/project", 1000],
    ["/home/ipybox/project", 1000],
    ["/opt/project", 1000],
    ["/srv", 1000],
    ["/var/lib/jenkins/workspace/job", 1000],
    ["/root/project", 0],
    ["/usrlocal", 1000],
  ])("%s has its own path (uid %i)", (path, uid) => expect(workspacePathInside(path, uid)).toBe(path));

  it.each([
    ["/home", 1000],
    ["/home/ipybox", 1000],
    ["/opt", 1000],
    ["/opt/ipybox", 1000],
    ["/opt/ipybox/venv", 1000],
    ["/usr/src/project", 1000],
    ["/run/user/1000/project", 1000],
    ["/etc/project", 1000],
    ["/tmp", 1000],
    ["/workspace", 1000],
    ["/workspace/project", 1000],
    ["/root/project", 1000],
    ["C:\\Users\\ann\\project", 1000],
  ])("%s is at /workspace alone (uid %i)", (path, uid) => expect(workspacePathInside(path, uid)).toBe("/workspace"));
});

describe("a workspace of Windows", () => {
  const path = "C:\\Users\\ann\\project";
  const workspace = { path, key: "k", masked: [`${path}\\a\\.env`], protected: [`${path}\\.git`] };

  it("is at /workspace alone, with its masks, pins and protections", () => {
    expect(summary({ workspace }).slice(0, 4)).toEqual([
      "C:\\Users\\ann\\project → /workspace rw",
      "C:\\Users\\ann\\project\\a → /workspace/a rw",
      "C:\\Users\\ann\\project\\.git → /workspace/.git ro",
      "/run/user/1000/ipybox/r/s/empty → /workspace/a/.env ro",
    ]);
    expect(toShieldedPlaces({ ...plan, workspace })).toEqual([
      { place: "/workspace", bound: ["a", ".git"], masked: ["a/.env"] },
    ]);
  });
});

describe("what init looks for", () => {
  it("is every pin, protection and mask in each place", () => {
    const masked = ["/home/ann/project/a/.env"];
    const workspace = { ...plan.workspace, masked, protected: ["/home/ann/project/a/b/.git"] };
    const extra = [{ source: "/home/ann", target: "/home/ann", readOnly: true }];
    const shields = { bound: ["a", "a/b", "a/b/.git"], masked: ["a/.env"] };
    expect(toShieldedPlaces({ ...plan, workspace, extra })).toEqual([
      { place: "/home/ann/project", ...shields },
      { place: "/workspace", ...shields },
      {
        place: "/home/ann",
        bound: ["project/a", "project/a/b", "project/a/b/.git"], // not `project`, which is a place itself
        masked: ["project/a/.env"],
      },
    ]);
  });
});

describe("mounts", () => {
  it("are the workspace twice, the run directory and the packages", () => {
    expect(summary({})).toEqual([
      "/home/ann/project → /home/ann/project rw",
      "/home/ann/project → /workspace rw",
      "/run/user/1000/ipybox/r/s → /run/ipybox ro",
      "ipybox-packages-k → /opt/ipybox/packages ro",
    ]);
  });

  it("mask and protect at both places of the workspace", () => {
    const masked = ["/home/ann/project/.env", "/home/ann/project/a/b/.env"];
    const found = summary({ workspace: { ...plan.workspace, masked, protected: ["/home/ann/project/.git"] } });
    expect(found.slice(2, -2)).toEqual([
      "/home/ann/project/a → /home/ann/project/a rw",
      "/home/ann/project/a/b → /home/ann/project/a/b rw",
      "/home/ann/project/.git → /home/ann/project/.git ro",
      "/run/user/1000/ipybox/r/s/empty → /home/ann/project/.env ro",
      "/run/user/1000/ipybox/r/s/empty → /home/ann/project/a/b/.env ro",
      "/home/ann/project/a → /workspace/a rw",
      "/home/ann/project/a/b → /workspace/a/b rw",
      "/home/ann/project/.git → /workspace/.git ro",
      "/run/user/1000/ipybox/r/s/empty → /workspace/.env ro",
      "/run/user/1000/ipybox/r/s/empty → /workspace/a/b/.env ro",
    ]);
  });

  it("are without the run directory where nothing is reached by it", () => {
    expect(summary({ crossing: { type: "exec" } })).toEqual([
      "/home/ann/project → /home/ann/project rw",
      "/home/ann/project → /workspace rw",
      "ipybox-packages-k → /opt/ipybox/packages ro",
    ]);
  });

  it.each([
    ["nothing in the root", [".git"], [".env"], []],
    ["the way to a nested repository", ["a/b/.git"], [], ["a", "a/b"]],
    ["a shared way once", ["a/.git"], ["a/.env", "a/b/.env"], ["a", "a/b"]],
    ["no directory that is read-only itself", ["a"], ["a/.env"], []],
    ["no directory inside a read-only one, which would make it writable", ["a"], ["a/b/c/.env"], []],
    ["the way to a read-only directory, not what is in it", ["a/b"], ["a/b/c/.env"], ["a"]],
    ["names that only begin alike", ["a"], ["ab/.env"], ["ab"]],
  ])("pin %s", (_what, shielded, masked, pins) => {
    const at = (path: string) => `/home/ann/project/${path}`;
    const workspace = { ...plan.workspace, masked: masked.map(at), protected: shielded.map(at) };
    const writable = summary({ workspace }).filter((line) => line.endsWith(" rw"));
    expect(writable.slice(2)).toEqual([
      ...pins.map((pin) => `${at(pin)} → ${at(pin)} rw`),
      ...pins.map((pin) => `${at(pin)} → /workspace/${pin} rw`),
    ]);
  });

  it("pin read-only for an installer", () => {
    const masked = ["/home/ann/project/a/.env"];
    const found = summary({ role: "installer", workspace: { ...plan.workspace, masked } });
    expect(found).toContain("/home/ann/project/a → /home/ann/project/a ro");
  });

  it("hold for a part of the workspace, or what it is a part of, that is mounted elsewhere", () => {
    const workspace = {
      ...plan.workspace,
      masked: ["/home/ann/project/a/.env"],
      protected: ["/home/ann/project/.git"],
    };
    const extra = [
      { source: "/home/ann/project/a", target: "/part", readOnly: false },
      { source: "/home/ann", target: "/whole", readOnly: false },
      { source: "/home/ann", target: "/home/ann", readOnly: true },
    ];
    const found = summary({ workspace, extra });
    expect(found).toEqual(
      expect.arrayContaining([
        "/run/user/1000/ipybox/r/s/empty → /part/.env ro",
        "/run/user/1000/ipybox/r/s/empty → /whole/project/a/.env ro",
        "/home/ann/project/.git → /whole/project/.git ro",
        "/home/ann/project → /whole/project rw",
      ]),
    );
    const targets = found.map((line) => line.split(" → ")[1]?.slice(0, -3));
    expect(new Set(targets).size).toBe(targets.length);
  });

  it("prefer the mask where a path is both masked and protected", () => {
    const path = "/home/ann/project/.env";
    const found = summary({ workspace: { ...plan.workspace, masked: [path], protected: [path] } });
    expect(found.filter((line) => line.includes(".env"))).toHaveLength(2);
    expect(found.some((line) => line.startsWith(path))).toBe(false);
  });

  it("are at /workspace alone where the host path would hide the image", () => {
    const workspace = { path: "/usr/src/p", key: "k", masked: ["/usr/src/p/.env"], protected: [] };
    expect(summary({ workspace }).slice(0, 2)).toEqual([
      "/usr/src/p → /workspace rw",
      "/run/user/1000/ipybox/r/s/empty → /workspace/.env ro",
    ]);
  });

  it("let an installer write the packages and nothing else", () => {
    const extra = [{ source: "/data", target: "/data", readOnly: false }];
    const storage = { writes: "packages" } as const;
    expect(summary({ role: "installer", storage, extra }).filter((line) => line.endsWith(" rw"))).toEqual([
      "ipybox-packages-k → /opt/ipybox/packages rw",
    ]);
  });

  it("let one that runs foreign code write its scratch instead, which the next one reads", () => {
    const scratch = { name: "scratch", [Symbol.asyncDispose]: () => Promise.resolve() };
    const stores = (writes: "packages" | "scratch") =>
      summary({ role: "installer", storage: { writes, scratch } }).filter((line) => line.includes("/opt/ipybox/"));
    expect(stores("scratch")).toEqual([
      "ipybox-packages-k → /opt/ipybox/packages ro",
      "scratch → /opt/ipybox/scratch rw",
    ]);
    expect(stores("packages")).toEqual([
      "ipybox-packages-k → /opt/ipybox/packages rw",
      "scratch → /opt/ipybox/scratch ro",
    ]);
  });

  it("give extra mounts the access that they ask for", () => {
    const extra = [
      { source: "/data", target: "/data", readOnly: true },
      { source: "/out", target: "/results", readOnly: false },
    ];
    expect(summary({ extra })).toEqual(expect.arrayContaining(["/data → /data ro", "/out → /results rw"]));
  });

  it("never create a missing source", () => {
    for (const mount of toMounts(plan)) expect(["bind", "volume"]).toContain(mount.Type);
  });
});

describe("a copied workspace", () => {
  it("is one volume in both places, without shields, that takes its owner from the image's directory alone", () => {
    const mounted = { type: "copy", volume: "work" } as const;
    const copied = { mounted, workspace: { ...plan.workspace, masked: ["/home/ann/project/.env"] } };
    expect(summary(copied)).toEqual([
      "work → /home/ann/project rw",
      "work → /workspace rw",
      "/run/user/1000/ipybox/r/s → /run/ipybox ro",
      "ipybox-packages-k → /opt/ipybox/packages ro",
    ]);
    expect(toMounts({ ...plan, ...copied }).map(({ VolumeOptions }) => VolumeOptions?.NoCopy)).toEqual([
      true,
      undefined,
      undefined,
      undefined,
    ]);
    expect(summary({ ...copied, role: "installer" }).slice(0, 2)).toEqual([
      "work → /home/ann/project ro",
      "work → /workspace ro",
    ]);
  });
});

it("mounts nothing of the workspace for whom it is none of their business", () => {
  const workspace = { path: "/home/ann/project", key: "k", masked: ["/home/ann/project/.env"], protected: [] };
  const extra = [{ source: "/data", target: "/data", readOnly: true }];
  const storage = { writes: "packages" } as const;
  expect(summary({ role: "installer", storage, workspace, extra, mounted: { type: "nothing" } })).toEqual([
    "/run/user/1000/ipybox/r/s → /run/ipybox ro",
    "ipybox-packages-k → /opt/ipybox/packages rw",
  ]);
});
