import { expect, test } from "vitest";

import { orAborted } from "../../../src/common/or-aborted.ts";
import { GatewayClient } from "../../../src/kernel/gateway-client.ts";

test("a request to a gateway that dials no more ends when its caller gives up", async () => {
  using client = new GatewayClient(({ signal }) => orAborted(new Promise(() => undefined), signal));
  const unreachable = { code: "kernel-unreachable" };
  await expect(client.interruptKernel("k", 10)).rejects.toMatchObject(unreachable);
  await expect(client.download("/", {}, AbortSignal.timeout(10))).rejects.toMatchObject(unreachable);
  await expect(client.openChannels("k", AbortSignal.timeout(10))).rejects.toMatchObject(unreachable);
});
