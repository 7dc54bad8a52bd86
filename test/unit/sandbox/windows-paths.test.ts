import { describe, expect, it } from "vitest";
import { toBindSource, toSlashForm } from "../../../src/sandbox/windows-paths.ts";

describe("a path of Windows", () => {
  it.each([
    ["C:\\Users\\ann\\project", "C:/Users/ann/project", "C:\\Users\\ann\\project"],
    ["c:/Users/ann", "c:/Users/ann", "c:\\Users\\ann"],
    ["\\\\?\\C:\\Users\\ann", "C:/Users/ann", "C:\\Users\\ann"],
    ["\\\\wsl$\\Debian\\home\\ann", "//wsl$/Debian/home/ann", "\\\\wsl$\\Debian\\home\\ann"],
    ["\\\\wsl.localhost\\Debian\\home\\ann", "//wsl.localhost/Debian/home/ann", "\\\\wsl.localhost\\Debian\\home\\ann"],
    ["\\\\?\\UNC\\wsl.localhost\\Debian\\srv", "//wsl.localhost/Debian/srv", "\\\\wsl.localhost\\Debian\\srv"],
  ])("%s is %s in plans and %s for the engine", (path, slashes, source) => {
    expect(toSlashForm(path)).toBe(slashes);
    expect(toBindSource(path)).toBe(source);
    expect(toBindSource(slashes)).toBe(source);
  });

  it.each(["\\\\nas\\share\\project", "//nas/share/project", "\\\\?\\UNC\\nas\\share"])(
    "%s can't be mounted",
    (path) => {
      expect(() => toBindSource(path)).toThrow("network share");
    },
  );
});

it.each(["/home/ann/project", "/home/ann/back\\slash", "/c/Users", "/", "/dev/null"])(
  "the path %s of another system stays as it is",
  (path) => {
    expect(toSlashForm(path)).toBe(path);
    expect(toBindSource(path)).toBe(path);
  },
);
