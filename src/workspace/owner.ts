export interface OwnerFacts {
  /** Who runs ipybox; undefined on Windows, which has no such numbers. */
  readonly callerUid: number | undefined;
  readonly callerGid: number | undefined;
  readonly workspaceUid: number;
  readonly workspaceGid: number;
}

export interface Owner {
  readonly uid: number;
  readonly gid: number;
  /** What the user should know, if anything. */
  readonly warning?: string;
}

/** Who there is in a sandbox where the host has no UIDs: its files belong to the Windows user, whoever wrote them. */
const FIRST_USER = 1000;

/**
 * As whom cells run and to whom files of ours in the workspace belong: the caller; for a caller who is root, the
 * workspace's owner. Root only when both are.
 */
export function decideOwner(facts: OwnerFacts): Owner {
  const { callerUid = FIRST_USER, callerGid = FIRST_USER } = facts;
  if (callerUid !== 0) return { uid: callerUid, gid: callerGid };
  if (facts.workspaceUid !== 0) return { uid: facts.workspaceUid, gid: facts.workspaceGid };
  return {
    uid: 0,
    gid: facts.workspaceGid,
    warning: "ipybox runs as root in a workspace of root: cells run as root too. Use another user where you can",
  };
}
