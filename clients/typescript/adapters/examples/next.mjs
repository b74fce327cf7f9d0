/** A route handler of Next, killed between the charge and its record: `node examples/next.mjs`. The route is next/app/webhooks/route.js. */

import { createServer } from "node:http";
import { fileURLToPath } from "node:url";

import next from "next";

import { main } from "./killed.mjs";

async function serve(_, port) {
  const app = next({ dev: true, dir: fileURLToPath(new URL("next", import.meta.url)), hostname: "127.0.0.1", port });
  await app.prepare();
  createServer(app.getRequestHandler()).listen(port, "127.0.0.1");
}

await main(import.meta.url, { serve });
