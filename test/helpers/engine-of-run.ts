/** What makes the sandboxes of this run of the end-to-end tests: the same tests hold for every engine. */
export const ENGINE_OF_RUN = process.env["IPYBOX_SANDBOX"] ?? "docker";

/** Whether its containers have gVisor's kernel, of which some things don't hold (docs/security.md, "Under gVisor"). */
export const UNDER_GVISOR = process.env["IPYBOX_RUNTIME"] === "runsc";

/** Whether they have limits of memory and processes. `test/matrix` knows engines that apply none. */
export const LIMITED = ENGINE_OF_RUN === "docker" && process.env["TEST_WITHOUT_LIMITS"] === undefined;

/** Whether it can build images. Engines of `test/matrix` are given theirs: they reach nothing to build them from. */
export const BUILDS = ENGINE_OF_RUN === "docker" && process.env["TEST_WITHOUT_BUILDS"] === undefined;

/** Defines tests of what only some engines promise. */
export function onEngines(engines: readonly ("docker" | "srt" | "none")[], define: () => void): void {
  if (engines.some((engine) => engine === ENGINE_OF_RUN)) define();
}
