// What an application writes, as an ES module; compiled by test/package.test.ts as it would compile it.
import { type Context, Handler, type Kept, Ledger, NotExecuted, type RelayedEvent, StepFailed } from "hookonce";
import { once } from "hookonce/ai";
import { webhook as express } from "hookonce/express";
import { webhook as fastify } from "hookonce/fastify";
import { webhook as hono } from "hookonce/hono";
import { contextOf, once as onceLangChain } from "hookonce/langchain";
import { webhook as next } from "hookonce/next";

interface Order {
  id: number;
  at: Date;
  note?: string;
}

const order: Order = { id: 1, at: new Date(0) };
const ledger = new Ledger();
const run = ledger.run("order-1");
const work = async (context: Context): Promise<Order> => {
  context.emit("order.paid", order, { key: "order-1" });
  return order;
};

export async function main(): Promise<string> {
  const kept: Kept<Order> = await run.execute("charge", work, { input: order, onLost: "hold", signal: AbortSignal.timeout(1_000) });
  const at: string = kept.at;
  const { result, replayedAt, message } = await run.call("charge", order, () => new Map([["a", 1n]]), { repeat: { after: "10m" } });
  const amount: string | undefined = result["a"];
  const nothing: null = await run.execute("nothing", () => {});
  const event = await run.waitFor({ source: "stripe", type: "payment_intent.succeeded", timeoutMs: 60_000 });
  const lease = await ledger.dedup("orders", "order-1", { window: "24h", leaseMs: 30_000 });
  await lease.handle(async (signal) => signal.throwIfAborted());
  return [at, amount, nothing, replayedAt, message, event.receivedAt].join();
}

// @ts-expect-error A date is text once it was kept.
export const wrong: Promise<Date> = run.execute("date", () => new Date());
// @ts-expect-error There is no such way to repeat.
void run.call("charge", order, work, { repeat: "twice" });

const handler = new Handler(ledger, { secrets: "whsec_" });
const handle = async (_: Context, event: RelayedEvent) => {
  if (event.type === null) throw new NotExecuted("no type");
  throw new StepFailed({ order });
};
export const handlers = [express(handler, handle), fastify(handler, handle), hono(handler, handle), next(handler, handle)];

const tool = { description: "charges", execute: async (input: { amount: number }) => input.amount };
export const tools: { charge: typeof tool } = once({ charge: tool }, { run, repeat: "ask" });
export const one: typeof tool = once(tool, { run, name: "charge" });
export const langchain = onceLangChain({ name: "charge", invoke: async () => 1 }, { run: () => run });
export const key = (config: { configurable?: Record<string, unknown> }): string => contextOf(config).effectKey;
export const send = ledger.once("send", async (_, to: string, about: Order) => `${to} ${about.id}`, { run: (to) => `mail ${to}` });
export const sent: Promise<string> = send("a@b", order);
