/** The package as others get it: from a checkout, packed, as an ES module and as CommonJS, under each way to resolve modules. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdtemp, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, before, test } from "node:test";
import { promisify } from "node:util";

const run = promisify(execFile);
const compiler = createRequire(resolve("package.json")).resolve("typescript/bin/tsc");
let folder: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), "hookonce-package-"));
  await writeFile(join(folder, "package.json"), '{ "private": true }');
  // As from a checkout: `prepare` builds, and what is packed is installed.
  await run("npm", ["install", "--install-links", "--no-save", "--offline", "--no-audit", "--no-fund", process.cwd()], { cwd: folder });
  for (const name of ["module.mts", "common.cts"]) await cp(join("test/consumer", name), join(folder, name));
});
after(() => rm(folder, { recursive: true, force: true }));

const installed = (...path: string[]) => join(folder, "node_modules/hookonce", ...path);

test("what is packed has no dependency, and is whole", async () => {
  const { dependencies, exports } = JSON.parse(await readFile(installed("package.json"), "utf8"));
  assert.equal(dependencies, undefined);
  const files = new Set((await readdir(installed(), { recursive: true })).map((file) => `./${file}`));
  for (const conditions of Object.values<any>(exports)) {
    if (typeof conditions === "string") continue;
    for (const { types, default: code } of [conditions.import, conditions.require]) assert.ok(files.has(types) && files.has(code), code);
  }
  assert.deepEqual([...files].filter((file) => /test|src|tsconfig/.test(file)), []);
});

for (const [module, resolution] of [
  ["NodeNext", "NodeNext"],
  ["Node16", "Node16"],
  ["ESNext", "Bundler"],
] as const) {
  test(`its types are right under ${resolution}`, async () => {
    const options = ["--noEmit", "--strict", "--exactOptionalPropertyTypes", "--target", "ES2022", "--lib", "ES2022,DOM", "--skipDefaultLibCheck"];
    // A bundler takes ES modules alone.
    const files = resolution === "Bundler" ? ["module.mts"] : ["module.mts", "common.cts"];
    const given = [compiler, ...options, "--module", module, "--moduleResolution", resolution, ...files];
    await run(process.execPath, given, { cwd: folder }).catch((error) => assert.fail(error.stdout));
  });
}

test("it runs as an ES module and as CommonJS, and an error of the one is one of the other", async () => {
  const code = `
    import { createRequire } from "node:module";
    import * as one from "hookonce";
    const other = createRequire(process.cwd() + "/")("hookonce");
    const names = Object.keys(one).sort().join() === Object.keys(other).sort().join();
    const said = [names, one.StepFailed !== other.StepFailed, new one.StepFailed(1) instanceof other.StepFailed,
      new other.WaitTimedOut(1) instanceof one.StepFailed, new one.StepFailed(1) instanceof other.NotExecuted, new Error() instanceof one.HookonceError];
    console.log(JSON.stringify(said));
  `;
  const { stdout } = await run(process.execPath, ["--input-type=module", "--eval", code], { cwd: folder });
  assert.deepEqual(JSON.parse(stdout), [true, true, true, true, false, false]);
});

for (const [adapter, library] of Object.entries({
  ai: "ai",
  express: "express",
  fastify: "fastify",
  hono: "hono",
  langchain: "@langchain/core",
  next: "next",
})) {
  test(`hookonce/${adapter} without its library says what to install`, async () => {
    const wanted = new RegExp(`hookonce/${adapter} needs ${library}: npm install ${library}`);
    for (const code of [`import("hookonce/${adapter}")`, `require("hookonce/${adapter}")`]) {
      await assert.rejects(run(process.execPath, ["--eval", code], { cwd: folder }), (error: { stderr: string }) => wanted.test(error.stderr));
    }
  });
}

test("HOOKONCE_URL and HOOKONCE_TOKEN say where the ledger is", async () => {
  const code = `
    const { Ledger } = require("hookonce");
    const fetch = async (url, { headers }) => (console.log(url, headers.authorization), new Response("{}", { status: 404 }));
    new Ledger({ fetch }).run("r").resume().catch(() => {});
  `;
  const asked = async (environment: Record<string, string>) =>
    (await run(process.execPath, ["--eval", code], { cwd: folder, env: { PATH: process.env.PATH, ...environment } })).stdout.trim();
  assert.equal(await asked({ HOOKONCE_URL: "http://ledger:1/", HOOKONCE_TOKEN: "t" }), "http://ledger:1/v1/runs/r/steps Bearer t");
  assert.equal(await asked({ HOOKONCE_URL: "" }), "http://127.0.0.1:8081/v1/runs/r/steps undefined");
});
