import { posix } from "node:path";
import { Readable } from "node:stream";
import { pack } from "tar-fs";
import type { DockerClient } from "./client.ts";
import type { EngineNote } from "./engine-note.ts";
import { EMPTY_VOLUME, LABEL } from "./labels.ts";

const NAME = "empty";
const DIRECTORY = "/mnt";

export interface EmptyFileOptions {
  readonly image: string;
  readonly owner: string;
  /** Of the volume that has the file: looking for it takes a container. */
  readonly note: EngineNote;
}

/**
 * An empty file that nobody can write, as a path of the engine's host: what lies over masked files where the engine has
 * no file of ours. It is on a volume.
 */
export async function emptyFileOnEngine(client: DockerClient, options: EmptyFileOptions): Promise<string> {
  const request = client.api.createVolume({ Name: EMPTY_VOLUME, Labels: { [LABEL.role]: "mask" } });
  const { Mountpoint, CreatedAt } = await client.ask(request);
  if (CreatedAt === undefined || CreatedAt !== (await options.note.read())) {
    await putFile(client, options);
    if (CreatedAt !== undefined) await options.note.write(CreatedAt);
  }
  return posix.join(Mountpoint, NAME);
}

/** Through a container that never runs, as `docker cp` does it. */
async function putFile(client: DockerClient, { image, owner }: EmptyFileOptions): Promise<void> {
  const { api } = client;
  const id = await client.ask(
    api.createContainer({
      Image: image,
      Labels: { [LABEL.owner]: owner },
      HostConfig: { NetworkMode: "none", Mounts: [{ Type: "volume", Source: EMPTY_VOLUME, Target: DIRECTORY }] },
    }),
  );
  try {
    // Never replaced: another server may mount it now.
    const found = await client.find(api.statFile(id, posix.join(DIRECTORY, NAME)));
    if (found === undefined) await client.ask(api.putArchive(id, DIRECTORY, archive()));
  } finally {
    await client.find(api.removeContainer(id));
  }
}

function archive(): Readable {
  const tar = pack(DIRECTORY, { entries: [], finalize: false });
  tar.entry({ name: NAME, mode: 0o444 }, "");
  tar.finalize();
  return Readable.from(tar); // tar-fs has streams of its own kind
}
