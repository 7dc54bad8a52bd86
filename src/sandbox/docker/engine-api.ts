import type { IncomingMessage } from "node:http";
import type { Duplex, Readable } from "node:stream";
import type {
  ContainerCreateOptions,
  ContainerInfo,
  ContainerInspectInfo,
  ImageInfo,
  VolumeInspectInfo,
} from "dockerode";
import type { EngineHttp } from "./engine-http.ts";

/** What a list is narrowed to, as in `{ label: ["io.ipybox.owner"] }`. */
export type Filters = Readonly<Record<string, readonly string[]>>;

/**
 * The requests of the Docker Engine API that sandboxes need. Only their types are dockerode's: dockerode itself takes
 * 200 ms of processor to load, for gRPC and SSH that nothing here uses, and the first cell waits for it. The engine is
 * trusted to answer as its reference says.
 */
export class EngineApi {
  readonly #http: EngineHttp;

  constructor(http: EngineHttp) {
    this.#http = http;
  }

  info(): Promise<unknown> {
    return this.#http.json({ method: "GET", path: "/info" });
  }

  version(): Promise<unknown> {
    return this.#http.json({ method: "GET", path: "/version" });
  }

  /** JSON lines without end. `since` in seconds of the epoch. */
  events(query: { readonly since: number; readonly filters: Filters }): Promise<IncomingMessage> {
    return this.#http.stream({ method: "GET", path: "/events", query });
  }

  /** Resolves to the container's id. */
  async createContainer({ name, ...body }: ContainerCreateOptions): Promise<string> {
    const answer = await this.#http.json({ method: "POST", path: "/containers/create", query: { name }, body });
    return (answer as { Id: string }).Id;
  }

  async startContainer(id: string): Promise<void> {
    await this.#http.json({ method: "POST", path: `/containers/${id}/start` });
  }

  async pauseContainer(id: string): Promise<void> {
    await this.#http.json({ method: "POST", path: `/containers/${id}/pause` });
  }

  /** Both streams of its output in the engine's frames, from now on. */
  attachOutput(id: string): Promise<IncomingMessage> {
    const query = { stream: true, stdout: true, stderr: true };
    return this.#http.stream({ method: "POST", path: `/containers/${id}/attach`, query });
  }

  /** The same, and what is written to it becomes the container's stdin, which ends with it. */
  attachStdio(id: string): Promise<Duplex> {
    const query = { stream: true, stdin: true, stdout: true, stderr: true };
    return this.#http.upgrade({ method: "POST", path: `/containers/${id}/attach`, query });
  }

  async inspectContainer(id: string): Promise<ContainerInspectInfo> {
    return (await this.#http.json({ method: "GET", path: `/containers/${id}/json` })) as ContainerInspectInfo;
  }

  /** Figures of this moment. */
  containerStats(id: string): Promise<unknown> {
    const query = { stream: false, "one-shot": true };
    return this.#http.json({ method: "GET", path: `/containers/${id}/stats`, query });
  }

  /** Kills it first. */
  async removeContainer(id: string): Promise<void> {
    await this.#http.json({ method: "DELETE", path: `/containers/${id}`, query: { force: true } });
  }

  async listContainers(query: { readonly all: boolean; readonly filters: Filters }): Promise<ContainerInfo[]> {
    return (await this.#http.json({ method: "GET", path: "/containers/json", query })) as ContainerInfo[];
  }

  inspectImage(reference: string): Promise<unknown> {
    return this.#http.json({ method: "GET", path: `/images/${inPath(reference)}/json` });
  }

  /** What a registry says of it. */
  inspectDistribution(reference: string): Promise<unknown> {
    return this.#http.json({ method: "GET", path: `/distribution/${inPath(reference)}/json` });
  }

  async removeImage(reference: string): Promise<void> {
    await this.#http.json({ method: "DELETE", path: `/images/${inPath(reference)}` });
  }

  async listImages(query: { readonly filters: Filters }): Promise<ImageInfo[]> {
    return (await this.#http.json({ method: "GET", path: "/images/json", query })) as ImageInfo[];
  }

  /** With its tag or digest: without one the engine pulls all. Resolves to JSON lines. */
  pullImage(reference: string, signal: AbortSignal): Promise<IncomingMessage> {
    return this.#http.stream({ method: "POST", path: "/images/create", query: { fromImage: reference }, signal });
  }

  /** Makes an image of a root file system. Resolves to JSON lines. */
  importImage(tar: Readable, options: ImportOptions, signal: AbortSignal): Promise<IncomingMessage> {
    const query = { fromSrc: "-", ...options };
    return this.#http.stream({ method: "POST", path: "/images/create", query, tar, signal });
  }

  /** With the classic builder. Resolves to JSON lines. */
  buildImage(context: Readable, options: BuildOptions, signal: AbortSignal): Promise<IncomingMessage> {
    const query = { version: "1", rm: true, forcerm: true, ...options };
    return this.#http.stream({ method: "POST", path: "/build", query, tar: context, signal });
  }

  /** Whether it runs or not; what the engine answers is in a header. Refused with 404 where there is no such file. */
  async statFile(id: string, path: string): Promise<true> {
    await this.#http.json({ method: "HEAD", path: `/containers/${id}/archive`, query: { path } });
    return true;
  }

  /** Unpacks an archive in one of its directories, whether it runs or not. */
  async putArchive(id: string, path: string, tar: Readable): Promise<void> {
    await this.#http.json({ method: "PUT", path: `/containers/${id}/archive`, query: { path }, tar });
  }

  /** A volume that exists is no error. */
  async createVolume(body: { readonly Name: string; readonly Labels: StringMap }): Promise<CreatedVolume> {
    return (await this.#http.json({ method: "POST", path: "/volumes/create", body })) as CreatedVolume;
  }

  async removeVolume(name: string): Promise<void> {
    await this.#http.json({ method: "DELETE", path: `/volumes/${inPath(name)}` });
  }

  async listVolumes(query: { readonly filters: Filters }): Promise<VolumeInspectInfo[]> {
    const answer = await this.#http.json({ method: "GET", path: "/volumes", query });
    return (answer as { Volumes: VolumeInspectInfo[] | null }).Volumes ?? [];
  }
}

export interface CreatedVolume {
  /** On the engine's host. */
  readonly Mountpoint: string;
  readonly CreatedAt?: string;
}

export interface ImportOptions {
  /** With its tag: Podman knows no other parameter for it. */
  readonly repo: string;
  /** Instructions of a Dockerfile. */
  readonly changes: readonly string[];
}

export interface BuildOptions {
  /** The tag. */
  readonly t: string;
  readonly buildargs: StringMap;
  readonly labels: StringMap;
}

type StringMap = Readonly<Record<string, string>>;

/** What a user wrote stays one name: it ends no path and begins no query. */
function inPath(reference: string): string {
  return encodeURI(reference).replace(/[?#]/g, encodeURIComponent);
}
