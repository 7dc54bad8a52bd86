import { createLocalEngine } from "../../../src/sandbox/engines.ts";
import { makeLocalUnderTest } from "../../integration/sandbox/local-harness.ts";
import { describeEngine } from "./describe-engine.ts";

describeEngine("no container", () => makeLocalUnderTest(createLocalEngine));
