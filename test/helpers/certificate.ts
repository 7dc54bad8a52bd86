import { execFileSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { join } from "node:path";

/** A new certificate for `localhost` and `name` that signs itself, PEM, and its file in `directory`, for who is to trust it. */
export function makeCertificate(directory: string, name = "localhost"): { path: string; key: Buffer; cert: Buffer } {
  const [key, cert] = [join(directory, "key.pem"), join(directory, "cert.pem")];
  execFileSync(
    "openssl",
    [
      ...["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"],
      ...[
        "-subj",
        "/CN=localhost",
        "-addext",
        `subjectAltName=DNS:localhost,DNS:${name}`,
        "-keyout",
        key,
        "-out",
        cert,
      ],
    ],
    { stdio: "ignore" },
  );
  return { path: cert, key: readFileSync(key), cert: readFileSync(cert) };
}
