import { ReleaseStack } from "../../src/common/lifecycle.ts";
import { GatewayClient } from "../../src/kernel/gateway-client.ts";
import { KernelConnection } from "../../src/kernel/kernel-connection.ts";
import type { Sandbox } from "../../src/sandbox/engine.ts";

/** What code prints in a kernel of its own: the view from inside of any engine's sandbox. */
export async function runInKernel(sandbox: Sandbox, code: string): Promise<string> {
  await using stack = new ReleaseStack();
  const gateway = stack.use(new GatewayClient((options) => sandbox.connectGateway(options)));
  const kernel = await KernelConnection.start(gateway, { env: {} });
  stack.defer(() => kernel.kill(5_000));
  const { done } = kernel.execute(code, { maxOutputBytes: 1_000_000, onOutputLimit: () => undefined });
  return (await done).output.text;
}
