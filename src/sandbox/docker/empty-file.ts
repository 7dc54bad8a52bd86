import { posix } from "node:path";
import { Readable } from "node:stream";
import { pack } from "tar-fs";
import type { DockerClient } from "./client.ts";
import { EMPTY_VOLUME, LABEL } from "./labels.ts";

const NAME = "empty";
const DIRECTORY = "/mnt";

/**
 * An empty file that nobody can write, as a path of the engine's host: what lies over masked files where the engine has
 * no file of ours. It is on a volume, where it comes by a container that never runs, as `docker cp` puts it there.
 */
export async function emptyFileOnEngine(
  client: DockerClient,
  { image, owner }: { readonly image: string; readonly owner: string },
): Promise<string> {
  const { api } = client;
  const directory = await client.ask(api.createVolume({ Name: EMPTY_VOLUME, Labels: { [LABEL.role]: "mask" } }));
  const id = await client.ask(
    api.createContainer({
      Image: image,
      Labels: { [LABEL.owner]: owner },
      HostConfig: { NetworkMode: "none", Mounts: [{ Type: "volume", Source: EMPTY_VOLUME, Target: DIRECTORY }] },
    }),
  );
  try {
    // Looked for every time, since someone may have removed it; never replaced, since another server may mount it now.
    const found = await client.find(api.statFile(id, posix.join(DIRECTORY, NAME)));
    if (found === undefined) await client.ask(api.putArchive(id, DIRECTORY, archive()));
  } finally {
    await client.find(api.removeContainer(id));
  }
  return posix.join(directory, NAME);
}

function archive(): Readable {
  const tar = pack(DIRECTORY, { entries: [], finalize: false });
  tar.entry({ name: NAME, mode: 0o444 }, "");
  tar.finalize();
  return Readable.from(tar); // tar-fs has streams of its own kind
}
