import { IpyboxError } from "../../common/errors.ts";

/** The engine can't mount the workspace: it has no such directory, or one of its own at that path. */
export class WorkspaceElsewhere extends IpyboxError {
  constructor(path: string, cause?: unknown) {
    super("invalid-workspace", `The container engine does not have the directory ${path} of this host`, {
      hint: "The engine is on another machine, or in one that does not share this directory: let it be shared, or use another workspace.",
      cause,
    });
  }
}
