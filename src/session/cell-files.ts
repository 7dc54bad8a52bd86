import { messageOf } from "../common/errors.ts";
import type { Logger } from "../common/logger.ts";
import type { CellOutput, Picture } from "../kernel/cell-output.ts";
import { createSpill, SPILL_DIRECTORY } from "../workspace/spill.ts";
import type { WorkspaceFiles } from "../workspace/workspace-files.ts";
import type { SavedPicture, Spill, Truncation } from "./cell-result.ts";
import { truncate } from "./truncate.ts";

export interface CellFilesOptions {
  readonly files: WorkspaceFiles;
  readonly sessionId: string;
  readonly logger: Logger;
}

/** Makes a picture smaller; undefined when that fails. */
export type ShrinkPicture = (data: Buffer, maxBytes: number) => Promise<Buffer | undefined>;

/** Clients refuse larger images: such a picture's block is scaled down, its file stays as it is. */
const MAX_BLOCK_BYTES = 2 ** 20;
/** In Base64 it is what the gateway takes in one request. */
const MAX_SHRUNK_BYTES = 64 * 2 ** 20;
const MAX_PICTURES = 100;
const PIECE_CHARS = 4 * 2 ** 20;
const MAX_READ_BYTES = 256 * 2 ** 20;

/** The files that cells leave in the workspace through us: pictures under `images/`, whole outputs under `.ipybox/out/`. */
export class CellFiles {
  readonly #options: CellFilesOptions;
  #pictures = 0;
  #spills = 0;

  constructor(options: CellFilesOptions) {
    this.#options = options;
  }

  /** Cuts the text to the budget; what does not fit is kept in a file. */
  async fit(
    text: string,
    budget: number,
  ): Promise<{ readonly text: string; readonly truncation: Truncation | undefined }> {
    const truncated = truncate(text, budget);
    if (truncated === undefined) return { text, truncation: undefined };
    const { shownChars, totalChars } = truncated;
    return { text: truncated.text, truncation: { shownChars, totalChars, spill: await this.#spill(text) } };
  }

  /**
   * Saves the first of a cell's pictures, and tells how many were beyond the limit. One that can't be saved or is none is
   * named in the log, and never fails the cell.
   */
  async save(
    pictures: CellOutput["pictures"],
    shrink: ShrinkPicture,
  ): Promise<{ readonly saved: readonly SavedPicture[]; readonly leftOut: number }> {
    const saved: SavedPicture[] = [];
    for (const picture of pictures.slice(0, MAX_PICTURES)) {
      const data = decode(picture);
      if (data === undefined) {
        this.#options.logger.info("a picture that is none was left out", { mimeType: picture.mimeType });
        continue;
      }
      saved.push({ path: await this.#savePicture(picture, data), block: await toBlock(picture, data, shrink) });
    }
    return { saved, leftOut: Math.max(0, pictures.length - MAX_PICTURES) };
  }

  /** A whole output that was spilled by a session of this workspace; undefined when there is none of that id. */
  async readOutput(id: string): Promise<string | undefined> {
    if (!/^[a-z0-9-]{1,64}$/.test(id)) return undefined;
    const data = await this.#options.files.readFile(`${SPILL_DIRECTORY}/${id}.txt`, MAX_READ_BYTES);
    return data?.toString("utf8");
  }

  async #spill(text: string): Promise<Spill | undefined> {
    this.#spills += 1;
    const id = `${this.#options.sessionId}-${this.#spills}`;
    try {
      await using spill = await createSpill(this.#options.files, id);
      for (const piece of piecesOf(text)) await spill.append(piece);
      return { id, path: spill.path, bytes: Buffer.byteLength(text) };
    } catch (error) {
      this.#options.logger.warn("an output could not be spilled", { error: messageOf(error) });
      return undefined;
    }
  }

  async #savePicture(picture: Picture, data: Buffer): Promise<string | undefined> {
    this.#pictures += 1;
    const path = `images/${this.#options.sessionId}-${this.#pictures}.${EXTENSIONS[picture.mimeType]}`;
    try {
      await this.#options.files.writeFile(path, data);
      return path;
    } catch (error) {
      this.#options.logger.warn("a picture could not be saved", { error: messageOf(error) });
      return undefined;
    }
  }
}

/** So that the whole is not in memory a second time, as bytes. */
function* piecesOf(text: string): Generator<string> {
  for (let start = 0; start < text.length;) {
    const end = start + PIECE_CHARS;
    const cut = isHighSurrogate(text.charCodeAt(end - 1)) ? end - 1 : end;
    yield text.slice(start, cut);
    start = cut;
  }
}

function isHighSurrogate(unit: number): boolean {
  return unit >= 0xd800 && unit <= 0xdbff;
}

const EXTENSIONS = { "image/png": "png", "image/jpeg": "jpg", "image/svg+xml": "svg" } as const;

const SIGNATURES = {
  "image/png": Buffer.from("89504e470d0a1a0a", "hex"),
  "image/jpeg": Buffer.from("ffd8ff", "hex"),
} as const;

/** Undefined for what is no picture of its type. */
function decode({ mimeType, data }: Picture): Buffer | undefined {
  if (mimeType === "image/svg+xml") return Buffer.from(data);
  const decoded = Buffer.from(data, "base64");
  return isPicture(mimeType, decoded) ? decoded : undefined;
}

function isPicture(mimeType: keyof typeof SIGNATURES, data: Buffer): boolean {
  return data.subarray(0, 8).indexOf(SIGNATURES[mimeType]) === 0;
}

/** SVG is a file only: clients don't take it as an image. */
async function toBlock(
  { mimeType }: Picture,
  data: Buffer,
  shrink: ShrinkPicture,
): Promise<SavedPicture["block"] | undefined> {
  if (mimeType === "image/svg+xml") return undefined;
  if (data.length > MAX_SHRUNK_BYTES) return undefined;
  const small = data.length <= MAX_BLOCK_BYTES ? data : await shrink(data, MAX_BLOCK_BYTES);
  // What the sandbox answers is checked like what it displayed.
  if (small === undefined || small.length > MAX_BLOCK_BYTES || !isPicture(mimeType, small)) return undefined;
  return { mimeType, data: small.toString("base64") };
}
