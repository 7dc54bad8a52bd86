import type { IndexFile } from "./simple-index.ts";

/** An address that no index can name. */
const MARK = new URL("source-only:");

/**
 * The files of a project, and for each of its versions that has a source archive and no wheel for any Python and
 * platform, a wheel for all of them that is not there. Whoever resolves with wheels alone passes such versions over, and
 * installs an older one; so it comes to the same version as one that may build, and learns there that it must.
 */
export function withSourceOnlyMarks(project: string, files: readonly IndexFile[]): readonly IndexFile[] {
  const universal = new Set(files.flatMap(({ filename }) => versionOfUniversalWheel(filename) ?? []));
  const marks = files.flatMap((file) => {
    const version = versionOfSource(project, file.filename);
    if (version === undefined || universal.has(comparable(version))) return [];
    const filename = `${project.replaceAll("-", "_")}-${version}-py3-none-any.whl`;
    return { ...file, filename, url: MARK, hashes: {}, coreMetadata: false, size: undefined };
  });
  return marks.length === 0 ? files : [...files, ...marks];
}

export function isSourceOnlyMark(file: IndexFile): boolean {
  return file.url === MARK;
}

/** What stands between the project's name, in whichever spelling, and the suffix. */
function versionOfSource(project: string, filename: string): string | undefined {
  const stem = /^(.+)\.(?:tar\.gz|zip)$/i.exec(filename)?.[1] ?? "";
  const [name, version] = [stem.slice(0, project.length), stem.slice(project.length)];
  if (name.replaceAll(/[-_.]/g, "-").toLowerCase() !== project || !version.startsWith("-")) return undefined;
  return VERSION.test(version.slice(1)) ? version.slice(1) : undefined;
}

function versionOfUniversalWheel(filename: string): string | undefined {
  const version = UNIVERSAL_WHEEL.exec(filename)?.[1];
  return version === undefined ? undefined : comparable(version);
}

/** The same for most spellings of a version: where it is not, something is built for nothing. */
function comparable(version: string): string {
  return version
    .toLowerCase()
    .replaceAll(/(^|[.])0+(?=\d)/g, "$1")
    .replace(/(?:\.0)+$/, "");
}

const UNIVERSAL_WHEEL = /^[^-]+-([^-]+)(?:-\d[^-]*)?-(?:[^-]+\.)?py3\d*(?:\.[^-]+)?-none-any\.whl$/i;
/** One with a hyphen has no place in the name of a wheel. */
const VERSION = /^[0-9][A-Za-z0-9.!+_]*$/;
