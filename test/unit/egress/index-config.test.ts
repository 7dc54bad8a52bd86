import { describe, expect, it } from "vitest";
import { caBundlePaths, findNetrcCredentials, resolveIndexes } from "../../../src/egress/index-config.ts";

const sources = (files: Record<string, string> = {}, env: Record<string, string> = {}) => ({
  indexUrl: undefined,
  extraIndexUrls: [],
  env,
  home: "/home/ann",
  readFile: (path: string) => files[path],
});
const urls = (...args: Parameters<typeof resolveIndexes>) => resolveIndexes(...args).map(({ url }) => url.href);

describe("the configured indexes", () => {
  it("are PyPI when nothing is configured", () => {
    expect(urls(sources())).toEqual(["https://pypi.org/simple/"]);
  });

  it("come from pip's files, the user's before the global one", () => {
    const files = {
      "/etc/pip.conf": "[global]\nindex-url = https://global.example/simple\n",
      "/home/ann/.config/pip/pip.conf":
        "# mine\n[global]\nindex-url: https://mine.example/simple\nextra-index-url =\n    https://a.example/s\n    https://b.example/s/\n",
    };
    expect(urls(sources(files))).toEqual([
      "https://mine.example/simple/",
      "https://a.example/s/",
      "https://b.example/s/",
    ]);
  });

  it("come from [install] before [global], from variables before files, from options before all", () => {
    const files = {
      "/etc/pip.conf": "[install]\nindex_url=https://install.example/\n[global]\nindex-url=https://global.example/\n",
    };
    expect(urls(sources(files))).toEqual(["https://install.example/"]);
    const env = { PIP_INDEX_URL: "https://env.example/", PIP_EXTRA_INDEX_URL: "https://x.example/" };
    expect(urls(sources(files, env))).toEqual(["https://env.example/", "https://x.example/"]);
    expect(urls({ ...sources(files, env), indexUrl: "https://option.example/simple" })[0]).toBe(
      "https://option.example/simple/",
    );
  });

  it("keep credentials apart from the URL", () => {
    const [index] = resolveIndexes({ ...sources(), indexUrl: "https://ann:s%2Fcret@private.example/simple/" });
    expect(index).toMatchObject({ credentials: { user: "ann", password: "s/cret" } });
    expect(index?.url.href).toBe("https://private.example/simple/");
  });

  it("are refused when they are no http URL, without repeating credentials", () => {
    expect(() => resolveIndexes({ ...sources(), indexUrl: "ftp://ann:secret@x.example/" })).toThrow(
      /^(?!.*secret).*no http/,
    );
  });
});

describe("what pip's users configure besides", () => {
  it("is a netrc file", () => {
    const files = {
      "/home/ann/.netrc": "machine a.example login ann password one\nmachine b.example\n  login bob\n  password two\n",
    };
    expect(findNetrcCredentials("b.example", sources(files))).toEqual({ user: "bob", password: "two" });
    expect(findNetrcCredentials("c.example", sources(files))).toBeUndefined();
  });

  it("is a CA bundle", () => {
    const paths = caBundlePaths(
      sources({ "/etc/pip.conf": "[global]\ncert = /corp.pem\n" }, { SSL_CERT_FILE: "/ssl.pem" }),
    );
    expect(paths.slice(0, 2)).toEqual(["/ssl.pem", "/corp.pem"]);
  });
});
