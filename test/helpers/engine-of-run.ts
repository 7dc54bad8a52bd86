/** What makes the sandboxes of this run of the end-to-end tests: the same tests hold for every engine. */
export const ENGINE_OF_RUN = process.env["IPYBOX_SANDBOX"] ?? "docker";

/** Defines tests of what only some engines promise. */
export function onEngines(engines: readonly ("docker" | "srt" | "none")[], define: () => void): void {
  if (engines.some((engine) => engine === ENGINE_OF_RUN)) define();
}
