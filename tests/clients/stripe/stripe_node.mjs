// Stripe's own library for Node against an API behind a gateway: what the gateway refuses is an error there, never a success.
//
// HOOKONCE_TEST_SERVICE says where the gateway is, and at which port the API behind it is to be.

import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import { text } from "node:stream/consumers";
import { setTimeout as sleep } from "node:timers/promises";

import Stripe from "stripe";

const place = JSON.parse(process.env.HOOKONCE_TEST_SERVICE).gateways["stripe-node"];
const executed = {};
let number = 0;
let letGo;
const released = new Promise((resolve) => (letGo = resolve));

// Executes whatever reaches it. A customer's description says how it is answered.
const api = createServer(async (request, response) => {
  const fate = new URLSearchParams(await text(request)).get("description");
  executed[fate] = (executed[fate] ?? 0) + 1;
  number += 1;
  const said = { id: `cus_${number}`, object: "customer", description: fate };
  assert.equal(request.headers["idempotency-key"], undefined);
  if (fate === "lost") return request.socket.destroy();
  if (fate === "slow") await released;
  const status = /^\d+$/.test(fate) ? Number(fate) : 200;
  response.writeHead(status, { "content-type": "application/json" });
  response.end(JSON.stringify(status === 200 ? said : { error: { type: "api_error", message: "of a balancer" } }));
});
api.listen(place.upstream_port, "127.0.0.1");
await once(api, "listening");

const { hostname: host, port } = new URL(place.url);
const create = (description, key, maxNetworkRetries = 2) =>
  new Stripe("sk_test_shop", { host, port, protocol: "http", maxNetworkRetries, telemetry: false }).customers.create(
    { description },
    { idempotencyKey: key },
  );

async function refused(call, kind, status, code) {
  const error = await call.then(
    (said) => assert.fail(`no error, but ${JSON.stringify(said)}`),
    (error) => error,
  );
  assert.ok(error instanceof Stripe.errors[kind], `${error.constructor.name}: ${error.message}`);
  assert.deepEqual([error.statusCode, error.code], [status, code]);
  assert.ok(error.message);
  return error;
}

const [first, again] = [await create("ok", "ok"), await create("ok", "ok")];
assert.deepEqual([first.id, executed.ok], [again.id, 1]);
await refused(create("another", "ok"), "StripeIdempotencyError", 400, "key_reused");
assert.equal(executed.another, undefined);

// The answer is lost. What came of it is not known, and nothing is executed again, however often it is asked.
for (let time = 0; time < 2; time++) {
  const error = await refused(create("lost", "lost"), "StripeIdempotencyError", 400, "outcome_unknown");
  assert.match(error.headers.link, /rel="describedby"$/);
}
// A balancer's 504 and 502 say no more. The library sends again by itself, and is told.
for (const status of ["504", "502"]) await refused(create(status, status), "StripeIdempotencyError", 400, "outcome_unknown");
assert.deepEqual([executed.lost, executed["504"], executed["502"]], [1, 1, 1]);
// At 503 nothing was done, and the library may try three times.
await assert.rejects(create("503", "503"), (error) => error.statusCode === 503);
assert.equal(executed["503"], 3);

// One that is on its way: an error for who does not send again, its answer for who does.
const underWay = create("slow", "slow");
while (!executed.slow) await sleep(10);
await refused(create("slow", "slow", 0), "StripeAPIError", 409, "idempotency_key_in_use");
setTimeout(letGo, 300);
const answers = [await create("slow", "slow", 8), await underWay];
assert.deepEqual([answers[0].id, executed.slow], [answers[1].id, 1]);
api.close();
api.closeAllConnections();
