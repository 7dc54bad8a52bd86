export interface OwnerFacts {
  /** Who runs ipybox. */
  readonly callerUid: number;
  readonly callerGid: number;
  readonly workspaceUid: number;
  readonly workspaceGid: number;
}

export interface Owner {
  readonly uid: number;
  readonly gid: number;
  /** What the user should know, if anything. */
  readonly warning?: string;
}

/**
 * As whom cells run and to whom files of ours in the workspace belong: the caller; for a caller who is root, the
 * workspace's owner. Root only when both are.
 */
export function decideOwner(facts: OwnerFacts): Owner {
  if (facts.callerUid !== 0) return { uid: facts.callerUid, gid: facts.callerGid };
  if (facts.workspaceUid !== 0) return { uid: facts.workspaceUid, gid: facts.workspaceGid };
  return {
    uid: 0,
    gid: facts.workspaceGid,
    warning:
      "ipybox runs as root in a workspace of root: cells run as root in their container. Use another user where you can",
  };
}
