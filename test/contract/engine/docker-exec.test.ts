import { makeDockerUnderTest } from "../../integration/sandbox/docker-harness.ts";
import { describeEngine } from "./describe-engine.ts";

describeEngine("docker over the exec link", () => makeDockerUnderTest({ link: "exec" }));
