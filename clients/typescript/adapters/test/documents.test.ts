/** What the documents show compiles, against the real libraries. */

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { test } from "node:test";
import { promisify } from "node:util";

import { CLIENTS } from "../../test/service.js";

const NAMES = `
declare const bank: any, model: any, secret: any, chatId: any, threadId: any, ship: any;
declare const order: { id: string; amount: number };
`;

test("the documents' code compiles", async () => {
  const folder = "dist/documents";
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, "names.d.ts"), NAMES);
  const files = [join(folder, "names.d.ts")];
  for (const document of [join(CLIENTS, "typescript/README.md"), join(CLIENTS, "../docs/adapters-typescript.md")]) {
    for (const [, code] of (await readFile(document, "utf8")).matchAll(/^```ts\n(.*?)^```$/gms)) {
      files.push(join(folder, `${files.length}.ts`));
      await writeFile(files.at(-1)!, code!);
    }
  }
  assert.ok(files.length >= 9, `${files.length} files`);
  const options = ["--noEmit", "--strict", "--skipLibCheck", "--target", "ES2022", "--module", "NodeNext", "--types", "node"];
  await promisify(execFile)(process.execPath, ["node_modules/typescript/bin/tsc", ...options, ...files]).catch((error) => assert.fail(error.stdout));
});
