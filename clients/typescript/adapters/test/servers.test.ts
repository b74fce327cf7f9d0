/** The handlers of webhooks within the real servers. */

import assert from "node:assert/strict";
import { createHmac, randomUUID } from "node:crypto";
import { createServer } from "node:http";
import type { AddressInfo, Server } from "node:net";
import { after, before, test } from "node:test";

import { serve } from "@hono/node-server";
import express from "express";
import fastify from "fastify";
import { Hono } from "hono";
import { Handler, Ledger, type Work } from "hookonce";
import { webhook as forExpress } from "hookonce/express";
import { webhook as forFastify } from "hookonce/fastify";
import { webhook as forHono } from "hookonce/hono";
import { webhook as forNext } from "hookonce/next";
import { NextRequest } from "next/server.js";

import { SECRET, Service, TOKEN } from "../../test/service.js";

type Post = (path: string, init: { headers: Record<string, string>; body: string }) => Promise<Response>;

let service: Service;
let handler: Handler;
let reported: unknown[] = [];
const closing: (() => unknown)[] = [];
before(async () => {
  service = await Service.start();
  const ledger = new Ledger({ url: service.url, token: TOKEN });
  handler = new Handler(ledger, { secrets: SECRET, onError: (error) => reported.push(error) });
});
after(async () => {
  for (const close of closing) await close();
  await service.stop();
});

async function at(server: Server): Promise<Post> {
  if (!server.listening) await new Promise((done) => server.once("listening", done));
  closing.push(() => server.close());
  const { port } = server.address() as AddressInfo;
  return (path, init) => fetch(`http://127.0.0.1:${port}${path}`, { method: "POST", ...init });
}

function signed(body: string, id: string = randomUUID()) {
  const time = String(Math.floor(Date.now() / 1000));
  const key = Buffer.from(SECRET.slice("whsec_".length), "base64");
  const signature = createHmac("sha256", key).update(`${id}.${time}.${body}`).digest("base64");
  return { headers: { "content-type": "application/json", "webhook-id": id, "webhook-timestamp": time, "webhook-signature": `v1,${signature}` }, body };
}

/** 25 deliveries of 20 events, 5 of them twice. */
async function deliver(post: Post, path: string): Promise<number[]> {
  const events = Array.from({ length: 20 }, (_, number) => signed(`{ "number": ${number},  "name": "Grüße" }`));
  const statuses = [];
  for (const event of [...events, ...events.slice(0, 5)]) statuses.push((await post(path, event)).status);
  return statuses;
}

const all = (status: number) => Array.from({ length: 25 }, () => status);

/** Counts the events. */
function counting(): { work: Work; handled: number[] } {
  const handled: number[] = [];
  return { handled, work: (_, event) => handled.push((event.json() as { number: number }).number) };
}

const servers: Record<string, (work: Work) => Promise<Post>> = {
  express: (work) => {
    const app = express();
    app.post("/webhooks", forExpress(handler, work));
    app.use(express.json());
    return at(app.listen(0, "127.0.0.1"));
  },
  "express, with express.raw": (work) => {
    const app = express();
    app.post("/webhooks", express.raw({ type: () => true }), forExpress(handler, work));
    return at(app.listen(0, "127.0.0.1"));
  },
  "express, with the bytes kept by another parser": (work) => {
    const app = express();
    app.use(express.json({ verify: (request, _, bytes) => void Object.assign(request, { rawBody: bytes }) }));
    app.post("/webhooks", forExpress(handler, work));
    return at(app.listen(0, "127.0.0.1"));
  },
  fastify: async (work) => {
    const app = fastify();
    await app.register(forFastify(handler, work, "/webhooks"));
    app.post("/others", async (request) => request.body);
    await app.listen({ port: 0, host: "127.0.0.1" });
    closing.push(() => app.close());
    const post = await at(app.server);
    const other = await post("/others", { headers: { "content-type": "application/json" }, body: '{"a":1}' });
    assert.deepEqual(await other.json(), { a: 1 }, "other routes keep their parsers");
    return post;
  },
  hono: (work) => {
    const app = new Hono();
    app.post("/webhooks", forHono(handler, work));
    return at(serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }) as Server);
  },
  "hono, after a middleware that reads JSON": (work) => {
    const app = new Hono();
    app.use(async (context, next) => {
      await context.req.json();
      await next();
    });
    app.post("/webhooks", forHono(handler, work));
    return at(serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }) as Server);
  },
  next: async (work) => {
    const POST = forNext(handler, work);
    return (path, init) => POST(new NextRequest(`http://next${path}`, { method: "POST", ...init }));
  },
  "node:http": (work) => at(createServer(handler.node(work)).listen(0, "127.0.0.1")),
};

for (const [name, start] of Object.entries(servers)) {
  test(`${name}: of 25 deliveries of 20 events each event is handled once`, async () => {
    const { work, handled } = counting();
    const post = await start(work);
    assert.deepEqual(await deliver(post, "/webhooks"), all(200));
    assert.deepEqual(handled, Array.from({ length: 20 }, (_, number) => number));
    const forged = { ...signed("{}"), body: '{"number":1}' };
    assert.equal((await post("/webhooks", forged)).status, 401);
  });
}

const parsed: Record<string, [(work: Work) => Promise<Post>, RegExp]> = {
  express: [
    (work) => {
      const app = express();
      app.use(express.json());
      app.post("/webhooks", forExpress(handler, work));
      return at(app.listen(0, "127.0.0.1"));
    },
    /register the handler before app\.use\(express\.json\(\)\), or give its route express\.raw/,
  ],
  hono: [
    (work) => {
      const app = new Hono();
      app.use(async (context, next) => {
        await context.req.parseBody().catch(() => {});
        await context.req.formData().catch(() => {});
        await next();
      });
      app.post("/webhooks", forHono(handler, work));
      return at(serve({ fetch: app.fetch, port: 0, hostname: "127.0.0.1" }) as Server);
    },
    /register the handler before what reads it as a form/,
  ],
  next: [
    async (work) => {
      const POST = forNext(handler, work);
      return async (path, init) => {
        const request = new NextRequest(`http://next${path}`, { method: "POST", ...init });
        await request.json();
        return POST(request);
      };
    },
    /call the handler before request\.json\(\)/,
  ],
  "node:http": [
    (work) => {
      const handle = handler.node(work);
      const server = createServer(async (request, response) => {
        for await (const _ of request);
        await handle(request, response);
      });
      return at(server.listen(0, "127.0.0.1"));
    },
    /call the handler before it is read/,
  ],
};

for (const [name, [start, cure]] of Object.entries(parsed)) {
  test(`${name}: a body that was parsed before is an error that says why`, async () => {
    reported = [];
    const { work, handled } = counting();
    const post = await start(work);
    assert.deepEqual(await deliver(post, "/webhooks"), all(500));
    const { status, detail } = (await (await post("/webhooks", signed("{}"))).json()) as { status: string; detail: string };
    assert.equal(status, "misconfigured");
    assert.match(detail, /its exact bytes, which the signature covers, are gone/);
    assert.match(detail, cure);
    assert.equal(reported.length, 26, "and it is told to who runs the server");
    assert.deepEqual(handled, []);
  });
}

test("an error of the work's own is the server's to answer, and the event comes again", async () => {
  const failing: Work = () => {
    if (failures++ < 1) throw new Error("no database");
    return "done";
  };
  let failures = 0;
  const caught: string[] = [];
  const app = express();
  app.post("/webhooks", forExpress(handler, failing));
  app.use((error: Error, _: express.Request, response: express.Response, next: express.NextFunction) => {
    if (response.headersSent) return next(error);
    caught.push(error.message);
    response.status(500).end();
  });
  const post = await at(app.listen(0, "127.0.0.1"));
  const event = signed("{}");
  assert.deepEqual([(await post("/webhooks", event)).status, (await post("/webhooks", event)).status], [500, 200]);
  assert.deepEqual([caught, failures], [["no database"], 2]);
});
