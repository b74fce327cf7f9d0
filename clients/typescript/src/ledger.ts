/** The ledger as code sees it. */

import { DedupLease } from "./dedup.js";
import type { Context } from "./holder.js";
import { type Encode, encoded, type Json, type Kept } from "./json.js";
import { Protocol } from "./protocol.js";
import { type CallOptions, Run } from "./run.js";
import { waitersMax, Wire } from "./wire.js";

export interface LedgerOptions {
  /** Default: HOOKONCE_URL, or http://127.0.0.1:8081 */
  url?: string;
  /** Default: HOOKONCE_TOKEN */
  token?: string;
  /** Who executes, for people to read. */
  owner?: string;
  /** How long one call without an answer, or with 408, 429, 502, 503 or 504, is sent again; then `Unavailable`. Default: 60,000. */
  giveUpMs?: number;
  fetch?: typeof fetch;
  /** How results are made JSON where they are none: see `Encode`. */
  encode?: Encode;
  /**
   * How many calls may wait at the server at once, each on a connection of its own; what is beyond asks from time to time. Default: as many as
   * there are where fetch opens a connection for each (Node, Deno), 128 with Bun, else 3. Give it where your fetch has a pool that is bounded.
   */
  waitersMax?: number;
}

export interface FunctionOptions<A extends unknown[]> extends CallOptions {
  /** The run that a call belongs to, or what names it from the arguments. Under "numbered" give a `Run`: it counts. */
  run: Run | string | ((...args: A) => Run | string);
  /** What identifies a call. Default: all arguments; refused are some that can't be JSON. */
  identity?: (...args: A) => unknown;
}

export class Ledger {
  readonly protocol: Protocol;
  readonly encode: Encode | undefined;

  constructor(options: LedgerOptions = {}) {
    const base = (options.url || setting("HOOKONCE_URL") || "http://127.0.0.1:8081").replace(/\/+$/, "") + "/v1";
    const token = options.token || setting("HOOKONCE_TOKEN");
    const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {};
    const waiters = options.waitersMax ?? waitersMax();
    const wire = new Wire(base, headers, options.giveUpMs ?? 60_000, options.fetch ?? fetch, waiters);
    // Each worker thread and process loads this module itself, so none has another's name.
    this.protocol = new Protocol(wire, options.owner ?? `client ${crypto.randomUUID()}`);
    this.encode = options.encode;
  }

  /** A run by its name: a set of named steps that are executed once each. */
  run(name: string): Run {
    return new Run(this, name);
  }

  /**
   * A function whose calls are done once each: the step is the name and the digest of the arguments, as with `run.call`. The work gets a
   * `Context` before the arguments; its callers give the arguments alone.
   */
  once<A extends unknown[], T>(
    name: string,
    work: (context: Context, ...args: A) => T | Promise<T>,
    { run, identity, ...options }: FunctionOptions<A>,
  ): (...args: A) => Promise<Kept<T>> {
    const given = typeof run === "string" ? this.run(run) : run;
    return async (...args) => {
      const named = typeof given === "function" ? given(...args) : given;
      const within = typeof named === "string" ? this.run(named) : named;
      const identified = identity ? identity(...args) : args.map(argument);
      return (await within.call(name, identified, (context) => work(context, ...args), options)).result;
    };
  }

  /**
   * Is this key new in the scope? `window` is how long it is remembered: "24h". Without a lease the answer marks the key, and a crash
   * before the work is done loses it. With one, `lease.handle(work)` does the work where the key is new; a crash leaves it to the next.
   */
  dedup(scope: string, key: string, options: { window: string; leaseMs?: undefined }): Promise<boolean>;
  dedup(scope: string, key: string, options: { window: string; leaseMs: number }): Promise<DedupLease>;
  async dedup(scope: string, key: string, { window, leaseMs }: { window: string; leaseMs?: number | undefined }): Promise<boolean | DedupLease> {
    const [claimedAt, claimId] = [performance.now(), crypto.randomUUID()];
    const fence = await this.protocol.mark(scope, key, claimId, window, leaseMs);
    return leaseMs === undefined ? fence !== null : new DedupLease(this.protocol, scope, key, claimId, fence, leaseMs, claimedAt);
  }

  /** The value as JSON, by this ledger's hook and the defaults. */
  encoded(value: unknown): Json {
    return encoded(value, this.encode);
  }
}

/** One that JSON would leave out would make two calls the same. */
function argument(value: unknown, index: number): unknown {
  if (typeof value !== "function" && typeof value !== "symbol") return value;
  throw new TypeError(`argument ${index + 1} is a ${typeof value}, which can't be JSON: say with \`identity\` what identifies a call`);
}

function setting(name: string): string | undefined {
  const { process } = globalThis as { process?: { env?: Record<string, string | undefined> } };
  return process?.env?.[name] || undefined;
}
