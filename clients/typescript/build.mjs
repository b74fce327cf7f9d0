/** Builds dist/: ES modules and CommonJS, each with its types. Installs the compiler first where an installation of another package runs this. */

import { execFileSync } from "node:child_process";
import { existsSync, rmSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const run = (command, given) => execFileSync(command, given, { cwd: here, stdio: "inherit", shell: process.platform === "win32" });

if (!existsSync(`${here}node_modules/typescript`)) run("npm", ["ci", "--ignore-scripts", "--include=dev"]);
const compiler = createRequire(import.meta.url).resolve("typescript/bin/tsc");
for (const folder of ["esm", "cjs"]) rmSync(`${here}dist/${folder}`, { recursive: true, force: true });
for (const project of ["tsconfig.json", "tsconfig.cjs.json"]) run(process.execPath, [compiler, "-p", project]);
// What is above says that files are ES modules.
writeFileSync(`${here}dist/cjs/package.json`, '{ "type": "commonjs" }\n');
