import { createSrtEngine, parseSrtSettings } from "../../../src/sandbox/engines.ts";
import { makeLocalUnderTest } from "../../integration/sandbox/local-harness.ts";
import { describeEngine } from "./describe-engine.ts";

describeEngine("sandbox-runtime", () =>
  makeLocalUnderTest((options) => {
    const srt = { settings: parseSrtSettings({}), workspace: "/", path: process.env["PATH"] ?? "" };
    return createSrtEngine({ ...options, srt });
  }),
);
