import { fileURLToPath } from "node:url";

// The examples share node_modules and effect.mjs, which are above the application.
export default { turbopack: { root: fileURLToPath(new URL("../..", import.meta.url)) } };
