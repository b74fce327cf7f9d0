// Restate's service, invoked with an idempotency key: one handler that does nothing, so that what is measured is Restate's own durable, once-only
// acceptance, and one that records one step. PORT by environment.
import * as restate from '@restatedev/restate-sdk';

const webhook = restate.service({
  name: 'webhook',
  handlers: {
    receive: async (_, event) => ({ id: event.id }),
    step: async (context, event) => ({ id: await context.run('charge', () => event.id) }),
  },
});
await restate.serve({ services: [webhook], port: Number(process.env.PORT) });
