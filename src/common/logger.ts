export const LOG_LEVELS = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];
export type LogFields = Readonly<Record<string, unknown>>;

/** Facts go in fields. No code, output, argument or secret at `info` and above. */
export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  child(fields: LogFields): Logger;
}

export interface LogRecord {
  readonly time: Date;
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: LogFields;
}

export interface LoggerOptions {
  readonly level: LogLevel;
  readonly format: "text" | "json";
  /** Receives whole lines; stderr by default, since stdout is the protocol. */
  readonly write?: (line: string) => void;
  /** Also receives every record, for MCP `notifications/message`. */
  readonly onRecord?: (record: LogRecord) => void;
}

export function createLogger(options: LoggerOptions, bound: LogFields = {}): Logger {
  const write = options.write ?? ((line: string) => process.stderr.write(line));
  const threshold = LOG_LEVELS.indexOf(options.level);
  const log = (level: LogLevel, message: string, fields: LogFields = {}) => {
    const record = { time: new Date(), level, message, fields: { ...bound, ...fields } };
    options.onRecord?.(record);
    if (LOG_LEVELS.indexOf(level) >= threshold) write(`${toLine(record, options.format)}\n`);
  };
  return {
    debug: (message, fields) => log("debug", message, fields),
    info: (message, fields) => log("info", message, fields),
    warn: (message, fields) => log("warn", message, fields),
    error: (message, fields) => log("error", message, fields),
    child: (fields) => createLogger(options, { ...bound, ...fields }),
  };
}

export const silentLogger: Logger = createLogger({ level: "error", format: "text", write: () => undefined });

function toLine(record: LogRecord, format: "text" | "json"): string {
  if (format === "json") {
    const { time, level, message, fields } = record;
    return stripControls(JSON.stringify({ time: time.toISOString(), level, message, ...fields })); // JSON escapes but one set
  }
  const fields = Object.entries(record.fields).map(([key, value]) => ` ${key}=${toText(value)}`);
  return stripControls(`${record.time.toISOString()} ${record.level.padEnd(5)} ${record.message}${fields.join("")}`);
}

function toText(value: unknown): string {
  if (value instanceof Error) return JSON.stringify(value.message);
  return typeof value === "string" && /^[\w./:@-]+$/.test(value) ? value : JSON.stringify(value);
}

/** Removes what a terminal could act on: ANSI sequences and control characters other than newline and tab. */
export function stripControls(text: string): string {
  return text.replace(ANSI_SEQUENCE, "").replace(CONTROL_CHARACTER, "");
}

/** CSI, OSC (ended by BEL or ST; without an end it must not swallow what follows), and two-character escapes. */
export const ANSI_SEQUENCE =
  // eslint-disable-next-line no-control-regex -- control characters are what this is about
  /(?:\u001b\[|\u009b)[0-?]*[ -/]*[@-~]|\u001b\](?:[^\u0007\u001b]{0,4096}(?:\u0007|\u001b\\))?|\u001b[@-Z\\-_]/g;
// eslint-disable-next-line no-control-regex -- likewise
const CONTROL_CHARACTER = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
