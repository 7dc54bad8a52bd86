import { stripControls } from "../../common/logger.ts";
import type { BuildStep } from "../engine.ts";
import { z } from "zod";

/** The engine's answer to a build, pull or import went wrong; `lastLines` is what came before. */
export class BuildFailure extends Error {
  readonly lastLines: string;

  constructor(message: string, lastLines: string) {
    super(message);
    this.name = "BuildFailure";
    this.lastLines = lastLines;
  }
}

const KEPT_LINES = 20;
const MAX_MESSAGE_CHARS = 120;

const recordSchema = z.object({
  stream: z.string().optional(),
  status: z.string().optional(),
  error: z.string().optional(),
});

/** Reads the JSON lines of a build, pull or import to their end. Rejects with {@link BuildFailure} if they tell of one. */
export async function followBuild(stream: NodeJS.ReadableStream, onProgress: (step: BuildStep) => void): Promise<void> {
  const tail: string[] = [];
  for await (const line of linesOf(stream)) {
    const record = recordSchema.safeParse(parseJson(line));
    if (!record.success) continue;
    const { error } = record.data;
    if (error !== undefined) throw new BuildFailure(stripControls(error), tail.join("\n"));
    for (const text of stripControls(record.data.stream ?? "")
      .split("\n")
      .filter((text) => text.trim() !== "")) {
      tail.push(text.trimEnd());
      if (tail.length > KEPT_LINES) tail.shift();
      const step = toStep(text);
      if (step) onProgress(step);
    }
    if (record.data.status !== undefined) onProgress({ message: shorten(stripControls(record.data.status)) });
  }
}

/** `Step 3/20 : RUN …` → step 3 of 20; other lines are output of a step, no progress. */
function toStep(line: string): BuildStep | undefined {
  const [, current, total, message] = /^Step (\d+)\/(\d+) : (.*)$/s.exec(line) ?? [];
  if (current === undefined || total === undefined || message === undefined) return undefined;
  return { message: shorten(message), step: { current: Number(current), total: Number(total) } };
}

function shorten(text: string): string {
  const line = text.replace(/\s+/g, " ").trim();
  return line.length > MAX_MESSAGE_CHARS ? `${line.slice(0, MAX_MESSAGE_CHARS - 1)}…` : line;
}

async function* linesOf(stream: NodeJS.ReadableStream): AsyncGenerator<string> {
  let pending = "";
  for await (const chunk of stream) {
    const lines = (pending + chunk.toString("utf8")).split("\n");
    pending = lines.pop() ?? "";
    yield* lines;
  }
  if (pending !== "") yield pending;
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
