/** Each example shows what it is to show; and the types are found by whoever looks for them. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

import { Service, TOKEN } from "../../test/service.js";

const run = promisify(execFile);
let service: Service;
before(async () => {
  service = await Service.start();
});
after(() => service.stop());

for (const name of ["ai", "langchain", "express", "fastify", "hono", "next"]) {
  test(`example: ${name}`, async () => {
    const env = { ...process.env, HOOKONCE_URL: service.url, HOOKONCE_TOKEN: TOKEN, NEXT_TELEMETRY_DISABLED: "1" };
    const { stdout } = await run(process.execPath, [`examples/${name}.mjs`], { env, timeout: 240_000 });
    const told = stdout.split("\n").filter((line) => /^with/.test(line));
    const said = (way: string, charges: number) => `${way} hookonce: killed after the charge, started again: ${charges} charges of 1 wanted`;
    assert.deepEqual(told, [said("without", 2), said("with", 1)]);
  });
}

test("are the types wrong? They are not", async () => {
  const folder = await mkdtemp(join(tmpdir(), "hookonce-types-"));
  try {
    const { stdout } = await run("npm", ["pack", "--ignore-scripts", "--pack-destination", folder], { cwd: ".." });
    await run(process.execPath, ["node_modules/@arethetypeswrong/cli/dist/index.js", join(folder, stdout.trim().split("\n").at(-1)!), "--no-color"]);
  } catch (error) {
    assert.fail(`${(error as { stdout?: string }).stdout}`);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
