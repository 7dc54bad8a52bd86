import { execFileSync } from "node:child_process";
import { rmSync } from "node:fs";
import { join } from "node:path";

import { repeat, timed, withSession } from "../session.mjs";
import { inDirectory } from "../subjects.mjs";

const PACKAGE = "tabulate==0.9.0";

/** Into a workspace without packages, whose wheel is in the cache. */
export const measurement = {
  name: "install of a cached wheel",
  unit: "ms",
  target: null,
  run: (subject) =>
    inDirectory(async (directory) => {
      const once = async () => {
        const ms = await withSession(
          subject,
          async (session) => {
            await session.cell("1");
            const took = await timed(() => session.call("install_package", { package_name: PACKAGE }));
            await session.cell("import tabulate");
            return took;
          },
          { directory },
        );
        forget(subject, directory);
        return ms;
      };
      await once();
      return repeat(subject.isOurs ? 5 : 3, once);
    }),
};

function forget(subject, directory) {
  if (!subject.isOurs) {
    execFileSync(subject.python, ["-m", "pip", "uninstall", "--yes", "--quiet", PACKAGE.split("==")[0]]);
    return;
  }
  const volumes = execFileSync(
    "docker",
    ["volume", "ls", "--quiet", "--filter", `label=io.ipybox.workspace=${join(directory, "workspace")}`],
    { encoding: "utf8" },
  );
  for (const volume of volumes.split("\n").filter(Boolean)) execFileSync("docker", ["volume", "rm", volume]);
  rmSync(join(directory, "workspace"), { recursive: true });
}
