/** Puts the client, built, where the libraries are: a symbolic link would make it look for them elsewhere. */

import { execFileSync } from "node:child_process";
import { cpSync, rmSync } from "node:fs";
import { fileURLToPath } from "node:url";

const client = fileURLToPath(new URL("..", import.meta.url));
const linked = fileURLToPath(new URL("node_modules/hookonce", import.meta.url));

execFileSync(process.execPath, ["build.mjs"], { cwd: client, stdio: "inherit" });
rmSync(linked, { recursive: true, force: true });
for (const part of ["package.json", "dist/esm", "dist/cjs"]) cpSync(`${client}${part}`, `${linked}/${part}`, { recursive: true });
