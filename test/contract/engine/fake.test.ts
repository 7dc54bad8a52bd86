import { createInterface } from "node:readline";
import { FakeEngine, FakeSandbox } from "../../fakes/fake-engine.ts";
import { describeEngine } from "./describe-engine.ts";

describeEngine("fake", () => {
  const engine = new FakeEngine();
  return Promise.resolve({
    engine,
    makeWorkspace: () => Promise.resolve({ path: "/workspace-of-nobody", key: "fake", masked: [], protected: [] }),
    askBridge: async (sandbox, line) => {
      if (!(sandbox instanceof FakeSandbox)) throw new Error("not a sandbox of the fake");
      const stream = sandbox.dialBridge();
      stream.write(`${line}\n`);
      for await (const answer of createInterface({ input: stream })) return answer;
      throw new Error("the bridge did not answer");
    },
    kill: (sandbox) => {
      if (sandbox instanceof FakeSandbox) sandbox.end({ code: 9, outOfMemory: false });
      return Promise.resolve();
    },
    leftovers: () => Promise.resolve([]),
    [Symbol.asyncDispose]: () => engine[Symbol.asyncDispose](),
  });
});
