import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import type { Socket } from "node:net";

type Environment = Readonly<Record<string, string | undefined>>;

/** Which proxy this host uses for TLS connections to a target, by `HTTPS_PROXY` and `NO_PROXY`. */
export function proxyFromEnvironment(env: Environment, host: string, port: number): URL | undefined {
  const proxy = env["https_proxy"] ?? env["HTTPS_PROXY"] ?? "";
  if (!URL.canParse(proxy)) return undefined;
  const exceptions = (env["no_proxy"] ?? env["NO_PROXY"] ?? "").split(/[\s,]+/).filter((entry) => entry !== "");
  const excepted = exceptions.some((entry) => {
    const [name = "", entryPort] = entry
      .replace(/^\*?\./, "")
      .toLowerCase()
      .split(":");
    const portMatches = entryPort === undefined || Number(entryPort) === port;
    return entry === "*" || (portMatches && (host === name || host.endsWith(`.${name}`)));
  });
  return excepted ? undefined : new URL(proxy);
}

/** A connection to `host:port` through an HTTP proxy; rejects with the proxy's refusal. */
export function connectThroughProxy(proxy: URL, host: string, port: number, timeoutMs: number): Promise<Socket> {
  const authorization =
    proxy.username === ""
      ? {}
      : {
          "proxy-authorization": `Basic ${Buffer.from(
            `${decodeURIComponent(proxy.username)}:${decodeURIComponent(proxy.password)}`,
          ).toString("base64")}`,
        };
  return new Promise((resolve, reject) => {
    const request = (proxy.protocol === "https:" ? httpsRequest : httpRequest)({
      method: "CONNECT",
      host: proxy.hostname,
      port: proxy.port === "" ? (proxy.protocol === "https:" ? 443 : 80) : Number(proxy.port),
      path: `${host}:${port}`,
      headers: { host: `${host}:${port}`, ...authorization },
      timeout: timeoutMs,
    });
    request.once("connect", (response, socket, head) => {
      if (response.statusCode !== 200) {
        socket.destroy();
        reject(new Error(`the host's proxy answered ${response.statusCode ?? 0}`));
        return;
      }
      socket.setTimeout(0);
      socket.on("error", () => socket.destroy());
      if (head.length > 0) socket.unshift(head);
      resolve(socket);
    });
    request.once("timeout", () => request.destroy(new Error("the host's proxy does not answer")));
    request.once("error", reject);
    request.end();
  });
}
