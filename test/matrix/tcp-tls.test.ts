import { describe, expect } from "vitest";

import { errorCodeOf, textOf, upstream } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";
import { serveTls } from "./tls-engine.ts";

describe("an engine over TCP with TLS", () => {
  test("runs cells, calls tools, installs packages and resets", async ({ connect, directory }) => {
    using engine = await serveTls(directory.make("certificates"));
    await using client = await connect({ env: engine.env });
    expect(await client.text("6 * 7")).toBe("42");
    await client.call("register_mcp_server", { server_name: "everything", server_params: upstream("everything") });
    const code = "from mcptools.everything.echo import Params, run\nprint(run(Params(message='over TLS')))";
    expect(await client.text(code)).toContain("over TLS");
    expect(textOf(await client.call("install_package", { package_name: "cowsay==6.1" }))).toContain("cowsay");
    expect((await client.call("reset")).isError).toBeFalsy();
    expect(await client.text("import cowsay; cowsay.__version__")).toBe("'6.1'");
  });

  test("that does not know our certificate can't be reached", async ({ connect, directory }) => {
    using engine = await serveTls(directory.make("certificates-of-this-one"));
    using stranger = await serveTls(directory.make("certificates-of-another"));
    const env = { ...engine.env, DOCKER_CERT_PATH: stranger.env.DOCKER_CERT_PATH };
    await using client = await connect({ env });
    const refused = await client.cell("1");
    expect(errorCodeOf(refused)).toBe("engine-unreachable");
    expect(textOf(refused)).toContain(engine.env.DOCKER_HOST);
  });
});
