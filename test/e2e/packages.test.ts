import { describe, expect } from "vitest";

import { errorCodeOf, type TestClient, textOf } from "../helpers/client.ts";
import { test } from "../helpers/session.ts";

const install = (client: TestClient, package_name: string) => client.call("install_package", { package_name });

describe("install_package", () => {
  test("installs what the kernel sees at once, and keeps it over reset and for later sessions", async ({
    client,
    connect,
  }) => {
    expect(textOf(await client.cell("import cowsay"))).toContain("ModuleNotFoundError");
    expect(textOf(await install(client, "cowsay==6.1"))).toContain("cowsay");
    expect(await client.text("import cowsay; cowsay.__version__")).toBe("'6.1'");
    await client.call("reset");
    expect(await client.text("import cowsay; cowsay.__version__")).toBe("'6.1'");
    await using later = await connect({ workspace: client.workspace });
    expect(await later.text("import cowsay; cowsay.__version__")).toBe("'6.1'");
  });

  test("leaves the session offline", async ({ client }) => {
    expect(
      textOf(await client.cell("import urllib.request; urllib.request.urlopen('https://pypi.org', timeout=5)")),
    ).toContain("URLError");
  });

  test.for([
    ["a package that does not exist", "no-such-package-of-the-test-xyz", "install-failed"],
    ["a version that does not exist", "cowsay==999", "install-failed"],
    ["a package of the image in another version", "numpy<2", "install-failed"],
    ["an option", "--index-url=http://127.0.0.1/ x", "invalid-requirement"],
    ["two packages at once", "a b", "invalid-requirement"],
    ["nothing", "", "invalid-requirement"],
    ["a path outside the workspace", "/etc", "invalid-requirement"],
  ] as const)("refuses %s with a reason", async ([, requirement, code], { client }) => {
    const result = await install(client, requirement);
    expect(result.isError).toBe(true);
    expect(errorCodeOf(result)).toBe(code);
    expect(textOf(result)).toContain("\nHint: ");
  });

  test("is what %pip install does in a cell", async ({ client }) => {
    expect(await client.text("%pip install tabulate==0.9.0")).toContain("tabulate");
    expect(await client.text("import tabulate; tabulate.__version__")).toBe("'0.9.0'");
  });
});
