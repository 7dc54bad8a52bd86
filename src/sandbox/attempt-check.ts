import { IpyboxError, messageOf } from "../common/errors.ts";
import type { Diagnosis } from "./engine-admin.ts";

/** What a check found; one that throws has failed, with the error's own remedy or else the one given. */
export async function attemptCheck(name: string, check: () => Promise<Diagnosis>, remedy: string): Promise<Diagnosis> {
  try {
    return await check();
  } catch (error) {
    const hint = error instanceof IpyboxError ? error.hint : undefined;
    return { name, status: "fail", detail: messageOf(error), remedy: hint ?? remedy };
  }
}
