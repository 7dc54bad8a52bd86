import { z } from "zod";

/**
 * The kernel protocol (https://jupyter-client.readthedocs.io/en/stable/messaging.html) in the framing of the WebSocket
 * subprotocol `v1.kernel.websocket.jupyter.org`: little-endian u64 count of offsets, the offsets, then channel,
 * header, parent header, metadata, content and binary buffers one after the other.
 */
export const WEBSOCKET_PROTOCOL = "v1.kernel.websocket.jupyter.org";

export interface KernelMessage {
  readonly channel: string;
  readonly id: string;
  readonly type: string;
  /** Message id of the request that this belongs to; empty for none. */
  readonly parentId: string;
  readonly content: unknown;
  /** Bytes on the wire of the content and of what is behind it. */
  readonly size: number;
}

/** A request that the kernel is sent. */
export interface KernelRequest {
  readonly channel: "shell" | "control";
  readonly id: string;
  readonly type: string;
  readonly content: Readonly<Record<string, unknown>>;
}

export function encodeRequest(request: KernelRequest, session: string): Buffer {
  const header = {
    msg_id: request.id,
    session,
    username: "ipybox",
    date: new Date().toISOString(),
    msg_type: request.type,
    version: "5.4",
  };
  const parts = [request.channel, JSON.stringify(header), "{}", "{}", JSON.stringify(request.content)].map((part) =>
    Buffer.from(part),
  );
  const offsetCount = parts.length + 1;
  const head = Buffer.alloc(8 * (1 + offsetCount));
  head.writeBigUInt64LE(BigInt(offsetCount), 0);
  let offset = head.length;
  parts.forEach((part, index) => {
    head.writeBigUInt64LE(BigInt(offset), 8 * (1 + index));
    offset += part.length;
  });
  head.writeBigUInt64LE(BigInt(offset), 8 * offsetCount);
  return Buffer.concat([head, ...parts]);
}

const headerShape = z.object({ msg_id: z.string(), msg_type: z.string() });
const parentShape = z.object({ msg_id: z.string().default("") });

/** Undefined for anything that is no well-formed message: what the sandbox sends is not trusted. */
export function decodeMessage(frame: Buffer): KernelMessage | undefined {
  const parts = splitFrame(frame);
  if (parts === undefined) return undefined;
  const [channel, header, parent, , content, text] = parts;
  if (channel === undefined || header === undefined || parent === undefined || content === undefined) return undefined;
  const size = parts.slice(4).reduce((sum, part) => sum + part.length, 0);
  try {
    const { msg_id, msg_type } = headerShape.parse(JSON.parse(header.toString()));
    const parsed: unknown = JSON.parse(content.toString());
    const { msg_id: parentId } = parentShape.parse(JSON.parse(parent.toString()));
    return {
      channel: channel.toString(),
      id: msg_id,
      type: msg_type,
      parentId,
      content: msg_type === "stream" && text !== undefined ? withText(parsed, text) : parsed,
      size,
    };
  } catch {
    return undefined;
  }
}

/** Our gateway leaves what was printed as it is, behind the content: as JSON it would be read and copied once more. */
function withText(content: unknown, text: Buffer): unknown {
  return { ...z.looseObject({}).parse(content), text: text.toString() };
}

function splitFrame(frame: Buffer): Buffer[] | undefined {
  if (frame.length < 8) return undefined;
  const offsetCount = Number(frame.readBigUInt64LE(0));
  const headBytes = 8 * (1 + offsetCount);
  // Five parts need six offsets; display data may carry buffers after them.
  if (offsetCount < 6 || offsetCount > 1024 || frame.length < headBytes) return undefined;
  const offsets = Array.from({ length: offsetCount }, (_, index) => Number(frame.readBigUInt64LE(8 * (1 + index))));
  const parts: Buffer[] = [];
  for (const [index, start] of offsets.slice(0, -1).entries()) {
    const end = offsets[index + 1] ?? 0;
    if (start < headBytes || end < start || end > frame.length) return undefined;
    parts.push(frame.subarray(start, end));
  }
  return parts;
}

const mimeBundle = z.record(z.string(), z.unknown());
const transient = z.object({ display_id: z.string().optional() }).optional();

/** Content of the iopub messages that make up a cell's output. */
export const outputShapes = {
  stream: z.object({ name: z.string(), text: z.string() }),
  display_data: z.object({ data: mimeBundle, transient }),
  update_display_data: z.object({ data: mimeBundle, transient }),
  execute_result: z.object({ data: mimeBundle, transient }),
  error: z.object({ ename: z.string(), evalue: z.string(), traceback: z.array(z.string()) }),
  clear_output: z.object({ wait: z.boolean().default(false) }),
} as const;

export const statusShape = z.object({ execution_state: z.string() });
export const executeReplyShape = z.object({
  status: z.enum(["ok", "error", "aborted"]),
  execution_count: z.number().int().nonnegative().nullish(),
  ename: z.string().optional(),
  evalue: z.string().optional(),
  traceback: z.array(z.string()).optional(),
});
