/** A key of a message under a lease. */

import { HookonceError, LeaseLost } from "./errors.js";
import { unless } from "./holder.js";
import type { Protocol } from "./protocol.js";
import { pause } from "./wire.js";

/** A key under a lease. `first`: it is yours to handle; else it was handled before. */
export class DedupLease {
  constructor(
    private readonly protocol: Protocol,
    private readonly scope: string,
    private readonly key: string,
    private readonly claimId: string,
    private readonly fence: number | null,
    private readonly leaseMs: number,
    /** By `performance.now()`: the lease has begun after it. */
    private readonly claimedAt: number,
  ) {}

  get first(): boolean {
    return this.fence !== null;
  }

  /**
   * Handles the key where it is yours: the lease is extended for as long as the work runs, then the key is done. A work that throws gives
   * the key back at once. True where it was handled now. The signal is given where another has the key.
   */
  async handle(work: (signal: AbortSignal) => unknown): Promise<boolean> {
    if (!this.first) return false;
    const over = new AbortController();
    const lost = new AbortController();
    void this.beat(over.signal, lost);
    try {
      await work(lost.signal);
    } catch (error) {
      over.abort();
      await this.release(GIVE_BACK_MS).catch(unless(HookonceError));
      throw error;
    } finally {
      over.abort();
    }
    await this.done();
    return true;
  }

  /** Extends the lease, for who handles the key in some other way; `LeaseLost` where another has it now. */
  async heartbeat(leaseMs: number = this.leaseMs): Promise<void> {
    if (this.fence !== null) await this.mind("heartbeat", { lease_ms: Math.max(1, Math.round(leaseMs)) });
  }

  /** Says that the key is handled; `LeaseLost` where another has it now. */
  async done(): Promise<void> {
    if (this.fence !== null) await this.mind("done");
  }

  /** Gives the key back: it is free at once. */
  async release(giveUpMs?: number): Promise<void> {
    if (this.fence !== null) await this.mind("release", {}, giveUpMs === undefined ? {} : { giveUpMs });
  }

  private mind(action: string, body: { lease_ms?: number } = {}, more: { giveUpMs?: number; signal?: AbortSignal; patienceMs?: number } = {}): Promise<void> {
    return this.protocol.mind(this.scope, action, this.claimId, { key: this.key, fence: this.fence!, ...body }, more);
  }

  private async beat(over: AbortSignal, lost: AbortController): Promise<void> {
    const third = this.leaseMs / 3;
    for (let last = this.claimedAt; ; ) {
      await pause(Math.max(0, third - (performance.now() - last)), over);
      if (over.aborted) return;
      last = performance.now();
      try {
        await this.mind("heartbeat", { lease_ms: Math.max(1, Math.round(this.leaseMs)) }, { giveUpMs: third, signal: over, patienceMs: Math.min(1_000, third / 2) });
      } catch (error) {
        if (over.aborted) return;
        if (error instanceof LeaseLost) return lost.abort(error);
        // The next beat may get through.
      }
    }
  }
}

const GIVE_BACK_MS = 1_000;
