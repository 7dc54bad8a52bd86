import type { Client } from "@modelcontextprotocol/sdk/client/index.js";
import { ElicitRequestSchema } from "@modelcontextprotocol/sdk/types.js";
import { stripControls } from "../common/logger.ts";
import type { Redactor } from "./redaction.ts";

export interface ElicitationRequest {
  /** The upstream that asks. */
  readonly server: string;
  /** Begins with who asks. */
  readonly message: string;
  readonly requestedSchema: Readonly<Record<string, unknown>>;
}

export interface ElicitationAnswer {
  readonly action: "accept" | "decline" | "cancel";
  readonly content?: Record<string, string | number | boolean | string[]>;
}

/** Asks the user. Rejections reach the upstream as an error without details. */
export type Elicit = (
  request: ElicitationRequest,
  options: { readonly signal: AbortSignal },
) => Promise<ElicitationAnswer>;

const MAX_MESSAGE_CHARACTERS = 4000;

/** Passes an upstream's questions on, with its name in front and secrets taken out. `client` declared the capability. */
export function answerElicitations(client: Client, server: string, redactor: Redactor, elicit: Elicit): void {
  client.setRequestHandler(ElicitRequestSchema, async ({ params }, { signal }) => {
    if (params.mode === "url") throw new Error("Only form questions are passed on");
    const message = redactor.text(stripControls(params.message)).slice(0, MAX_MESSAGE_CHARACTERS);
    const answer = await elicit(
      {
        server,
        message: `The MCP server ${server} asks: ${message}`,
        requestedSchema: redactor.json(params.requestedSchema),
      },
      { signal },
    );
    return { ...answer };
  });
}
